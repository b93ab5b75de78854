"""A network between workers and Kafka that is slow, cut, deaf, dumb or silent."""

import asyncio

import pytest

from tests.faults.conftest import StartProxiedTrial, is_long
from tests.faults.proxy import Api, Fate
from tests.waiting import until_true

# The sessions of a trial's workers end after 2 s: the group gives their tasks to somebody else.
BEYOND_THE_SESSION_S = 4.0
# All but the one that may take as long as a rebalance, a minute: that one is for the long form.
SILENT = [api for api in Api if api is not Api.JOIN_GROUP]


@pytest.mark.timeout(400)
async def test_a_slow_network_that_is_cut_again_and_again_loses_and_doubles_nothing(
    start_proxied_trial: StartProxiedTrial, seed: int
) -> None:
    async with start_proxied_trial(seed) as (trial, network):
        for _ in range(2):
            trial.new_worker(network.bootstrap).start()
        async with trial.load(1_000):
            await trial.done(0.1)
            network.requests.delay_s = trial.chance.uniform(0.01, 0.05)
            network.answers.delay_s = trial.chance.uniform(0.01, 0.05)
            for _ in range(5):
                await trial.hit("all connections cut, on a slow network")
                network.cut()
                await trial.goes_on()
        await trial.check()


@pytest.mark.timeout(400)
async def test_a_worker_that_was_cut_off_beyond_its_session_spoils_nothing_and_rejoins(
    start_proxied_trial: StartProxiedTrial, seed: int
) -> None:
    async with start_proxied_trial(seed) as (trial, network):
        cut_off, other = trial.new_worker(network.bootstrap), trial.new_worker()
        cut_off.start()
        other.start()
        async with trial.load(800):
            await until_true(
                lambda: all("taken, reads" in w.said() for w in (cut_off, other)), deadline_s=60
            )
            await trial.done(0.1)
            name, ways = trial.chance.choice(
                [
                    ("black hole", (network.requests, network.answers)),
                    ("no answers", (network.answers,)),
                    ("no requests", (network.requests,)),
                ]
            )
            await trial.hit(f"{name} beyond the session")
            for way in ways:
                way.close()
            heard = len(other.said())
            # All four tasks are the other's now.
            await until_true(
                lambda: other.said()[heard:].count("taken, reads") >= trial.partitions,
                deadline_s=60,
            )
            for way in ways:
                way.open()
            heard_again = len(cut_off.said())
            await until_true(lambda: "taken, reads" in cut_off.said()[heard_again:], deadline_s=90)
        await trial.check()


@pytest.mark.timeout(400)
async def test_a_network_that_is_gone_for_all_workers_brings_the_work_to_a_halt_and_no_more(
    start_proxied_trial: StartProxiedTrial, seed: int
) -> None:
    async with start_proxied_trial(seed) as (trial, network):
        for _ in range(2):
            trial.new_worker(network.bootstrap).start()
        async with trial.load(800):
            await trial.done(0.1)
            await trial.hit("no network for anybody, beyond the session")
            network.requests.close()
            network.answers.close()
            await asyncio.sleep(BEYOND_THE_SESSION_S)  # the fault itself
            network.requests.open()
            network.answers.open()
            await trial.goes_on()
        await trial.check()


@pytest.mark.timeout(400)
async def test_requests_that_never_return_are_given_up(
    start_proxied_trial: StartProxiedTrial, seed: int
) -> None:
    async with start_proxied_trial(seed) as (trial, network):
        workers = [trial.new_worker(network.bootstrap) for _ in range(2)]
        for worker in workers:
            worker.start()
        killed = workers[0]
        async with trial.load(800):
            for worker in workers:  # one that still starts would end: nobody answers it
                await worker.says("taken, reads on")
            await trial.done(0.1)
            # The other one takes over, which brings those that are rare in calm times.
            killed.kill()
            silent = trial.chance.sample(list(Api) if is_long(seed) else SILENT, 3)
            traps = [network.trap(api, Fate.NO_ANSWER) for api in (Api.FETCH, *silent)]
            for trap in traps:
                await trial.hit(f"request {trap.api.name} {trap.fate}")
            await asyncio.wait_for(asyncio.gather(*(t.sprung.wait() for t in traps)), 120)
            killed.start()
            await trial.goes_on()
        await trial.check()
