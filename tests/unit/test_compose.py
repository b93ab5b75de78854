"""docker-compose.yml is valid, asks for no more rights than it needs, and fits the application.

Its services' commands and Kafka's settings run in tests/broker/test_compose_services.py.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import click
import pytest
import yaml

from commands.main import cli
from config.settings import Settings, environment_name, load_settings
from streams.app import create_worker
from tables.web.probes import LIVE

ROOT = Path(__file__).parents[2]
COMPOSE = ROOT / "docker-compose.yml"
DOCKERFILE = (ROOT / "deploy" / "Dockerfile").read_text(encoding="utf-8")
FILE: dict[str, Any] = yaml.safe_load(COMPOSE.read_text(encoding="utf-8"))
SERVICES: dict[str, dict[str, Any]] = FILE["services"]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
OURS = [name for name, service in SERVICES.items() if service["image"].startswith("headrace:")]
WORKERS = [name for name in OURS if SERVICES[name]["command"][0] == "worker"]
ONE_SHOT = "topics"
LONG_RUNNING = [name for name in SERVICES if name != ONE_SHOT]

each_service = pytest.mark.parametrize("name", SERVICES)
each_long_running = pytest.mark.parametrize("name", LONG_RUNNING)
each_of_ours = pytest.mark.parametrize("name", OURS)
each_worker = pytest.mark.parametrize("name", WORKERS)


def complaints(compose: Path) -> str:
    """Return what the Compose Specification's schema says against a file; "" if it fits."""
    checked = subprocess.run(
        [
            sys.executable,
            "-m",
            "check_jsonschema",
            "--builtin-schema",
            "vendor.compose-spec",
            compose,
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    return "" if checked.returncode == 0 else checked.stdout + checked.stderr


class TestFile:
    def test_it_fits_the_schema_of_the_compose_specification(self) -> None:
        assert complaints(COMPOSE) == ""

    def test_the_schema_refuses_what_compose_would_not_understand(self, tmp_path: Path) -> None:
        wrong = tmp_path / "docker-compose.yml"
        wrong.write_text(COMPOSE.read_text(encoding="utf-8").replace("read_only", "readonly"))
        assert "readonly" in complaints(wrong)

    def test_it_has_no_version(self) -> None:
        assert "version" not in FILE

    def test_volumes_are_those_that_services_use(self) -> None:
        used = {volume.split(":")[0] for s in SERVICES.values() for volume in s.get("volumes", [])}
        assert used == FILE["volumes"].keys()

    def test_without_a_profile_kafka_topics_and_two_workers_start(self) -> None:
        core = [name for name, service in SERVICES.items() if "profiles" not in service]
        assert core == ["kafka", ONE_SHOT, "worker-1", "worker-2"]
        profiles = {p for s in SERVICES.values() for p in s.get("profiles", [])}
        assert profiles == {"deduplication", "generator", "sales", "ui", "windows"}


class TestRights:
    @each_service
    def test_the_user_is_not_root(self, name: str) -> None:
        user = str(SERVICES[name]["user"]).split(":")[0]
        assert user not in {"", "0", "root"}

    @each_service
    def test_the_root_file_system_is_read_only(self, name: str) -> None:
        assert SERVICES[name]["read_only"] is True

    @each_service
    def test_there_are_no_capabilities_and_none_can_be_got(self, name: str) -> None:
        assert SERVICES[name]["cap_drop"] == ["ALL"]
        assert SERVICES[name]["security_opt"] == ["no-new-privileges:true"]
        assert SERVICES[name].keys().isdisjoint({"cap_add", "privileged", "network_mode", "pid"})

    @each_service
    def test_ports_are_open_to_this_machine_alone(self, name: str) -> None:
        for port in SERVICES[name].get("ports", []):
            assert re.fullmatch(r"127\.0\.0\.1:\d+:\d+", port)

    @each_service
    def test_processors_memory_processes_and_logs_are_bounded(self, name: str) -> None:
        limits = SERVICES[name]["deploy"]["resources"]["limits"]
        assert limits.keys() == {"cpus", "memory", "pids"}
        assert SERVICES[name]["logging"]["options"].keys() == {"max-size", "max-file"}

    @each_service
    def test_files_in_memory_are_bounded(self, name: str) -> None:
        for mount in SERVICES[name]["tmpfs"]:
            assert re.match(r"/[\w/]+:size=\d+m\b", mount)

    @each_service
    def test_images_are_pinned_by_a_tag_that_names_a_version(self, name: str) -> None:
        assert re.fullmatch(r"[a-z/-]+:v?\d+\.\d+\.\d+", SERVICES[name]["image"])


class TestLife:
    @each_long_running
    def test_health_is_checked_and_the_end_of_a_process_is_mended(self, name: str) -> None:
        health = SERVICES[name]["healthcheck"]
        assert {"test", "interval", "timeout", "retries"} <= health.keys()
        assert SERVICES[name]["restart"] == "unless-stopped"

    def test_what_runs_once_is_tried_again_and_not_for_ever(self) -> None:
        service = SERVICES[ONE_SHOT]
        assert service["restart"] == "on-failure:3"
        assert service["healthcheck"] == {"disable": True}

    @each_service
    def test_each_waits_for_what_it_needs(self, name: str) -> None:
        needs = SERVICES[name].get("depends_on", {})
        assert bool(needs) == (name != "kafka")
        for other, how in needs.items():
            wanted = "service_completed_successfully" if other == ONE_SHOT else "service_healthy"
            assert how == {"condition": wanted}
            assert other in SERVICES

    @each_worker
    def test_a_worker_has_the_time_for_its_last_commit(self, name: str) -> None:
        grace = re.fullmatch(r"(\d+)s", SERVICES[name]["stop_grace_period"])
        worker = create_worker(load_settings(kafka_brokers=("kafka:19092",)))
        assert grace
        assert int(grace[1]) > 2 * worker.config.revoke_timeout_s()


class TestApplication:
    @each_of_ours
    def test_the_image_is_that_of_this_version(self, name: str) -> None:
        assert SERVICES[name]["image"] == f"headrace:{PROJECT['project']['version']}"

    @each_of_ours
    def test_what_is_set_are_settings_and_they_make_sense(
        self, name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        environment = SERVICES[name]["environment"]
        assert environment.keys() <= set(map(environment_name, Settings.model_fields))
        monkeypatch.chdir(tmp_path)
        for variable, value in environment.items():
            assert isinstance(value, str), f"YAML reads {variable} as something else than text"
            monkeypatch.setenv(variable, value)
        settings = load_settings()
        assert settings.kafka_brokers == ("kafka:19092",)
        assert not settings.kafka_auto_create_topics

    @each_of_ours
    def test_the_command_line_is_understood(self, name: str) -> None:
        context = click.Context(cli)
        command: click.Command = cli
        args = SERVICES[name]["command"]
        while isinstance(command, click.Group):
            _, found, args = command.resolve_command(context, args)
            assert found is not None
            command, context = found, found.make_context(found.name, list(args))
            args = [*context._protected_args, *context.args]

    def test_clients_are_called_differently(self) -> None:
        assert len({SERVICES[name]["environment"]["KAFKA_CLIENT_ID"] for name in OURS}) == len(OURS)

    def test_each_worker_is_asked_for_its_health_where_its_web_view_listens(self) -> None:
        published = [port for name in WORKERS for port in SERVICES[name]["ports"]]
        for name in WORKERS:
            port = SERVICES[name]["environment"]["HEADRACE_WEB_PORT"]
            assert f"http://127.0.0.1:{port}{LIVE}" in SERVICES[name]["healthcheck"]["test"][-1]
            assert SERVICES[name]["ports"][0].endswith(f":{port}")
        assert len(set(published)) == len(WORKERS)

    @each_worker
    def test_a_worker_has_a_volume_of_its_own_for_its_state(self, name: str) -> None:
        folder = re.search(r"HEADRACE_DATA_DIR=(\S+)", DOCKERFILE)
        assert folder
        assert SERVICES[name]["volumes"] == [f"{name}-state:{folder[1]}"]


class TestKafka:
    def test_services_and_this_machine_use_the_address_that_kafka_tells_them(self) -> None:
        kafka = SERVICES["kafka"]
        told = dict(
            listener.split("://")
            for listener in kafka["environment"]["KAFKA_ADVERTISED_LISTENERS"].split(",")
        )
        assert told.keys() == {"INTERNAL", "HOST"}
        for name in OURS:
            assert SERVICES[name]["environment"]["KAFKA_BROKERS"] == told["INTERNAL"]
        assert (
            SERVICES["ui"]["environment"]["KAFKA_CLUSTERS_0_BOOTSTRAPSERVERS"] == told["INTERNAL"]
        )
        port = told["HOST"].removeprefix("localhost:")
        assert kafka["ports"] == [f"127.0.0.1:{port}:{port}"]

    def test_its_data_is_on_a_volume(self) -> None:
        data = SERVICES["kafka"]["environment"]["KAFKA_LOG_DIRS"]
        assert SERVICES["kafka"]["volumes"] == [f"kafka-data:{data}"]


def blocks(lock: str) -> list[str]:
    """Return a lock's packages, each with its hashes."""
    return re.split(r"\n(?=[a-z])", (ROOT / lock).read_text(encoding="utf-8").rstrip("\n"))


class TestImage:
    def test_base_images_are_pinned_by_a_tag(self) -> None:
        images = re.findall(r"^FROM (\S+)", DOCKERFILE, re.MULTILINE)
        assert images
        assert [image for image in images if not re.fullmatch(r"python:3\.\d+-[\w-]+", image)] == []

    def test_it_runs_as_the_user_that_compose_names(self) -> None:
        [user] = re.findall(r"^USER (\S+)$", DOCKERFILE, re.MULTILINE)
        assert {SERVICES[name]["user"] for name in OURS} == {user}

    def test_its_last_stage_installs_nothing(self) -> None:
        last = DOCKERFILE[DOCKERFILE.rindex("\nFROM ") :]
        assert "pip" not in last
        assert "apt" not in last

    def test_all_that_is_installed_has_its_hash_in_a_lock_but_for_our_own_wheel(self) -> None:
        installs = re.findall(r"pip install (.*)", DOCKERFILE.replace("\\\n", ""))
        hashed = [line for line in installs if line.startswith("--require-hashes -r ")]
        [other] = [line for line in installs if line not in hashed]
        assert len(hashed) == 2
        assert other.startswith("--no-deps /wheels/*.whl")

    def test_the_build_backend_is_taken_from_the_lock(self) -> None:
        names = re.search(r"\^\\\((.+)\\\)==", DOCKERFILE)
        assert names
        locked = {block.partition("==")[0] for block in blocks("requirements.lock")}
        assert set(names[1].split(r"\|")) <= locked
        assert PROJECT["build-system"]["requires"] == [names[1].split(r"\|")[0]]

    def test_its_lock_is_the_part_of_the_other_that_neither_develops_nor_needs_java(self) -> None:
        runtime, everything = blocks("requirements-runtime.lock"), blocks("requirements.lock")
        assert set(runtime) < set(everything)
        names = {block.partition(" ")[0] for block in runtime}
        project = PROJECT["project"]
        wanted = {re.sub(r"\[.*\]", "", pin) for pin in project["dependencies"]}
        extras = [pin for extra in project["optional-dependencies"].values() for pin in extra]
        assert wanted <= names
        assert names.isdisjoint(extras)

    def test_the_context_holds_what_the_wheel_is_made_of_and_no_more(self) -> None:
        lines = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
        let_in = {line[1:].rstrip("/") for line in lines if line.startswith("!")}
        packages = PROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]
        files = ["LICENSE", "README.md", "pyproject.toml"]
        locks = ["requirements.lock", "requirements-runtime.lock"]
        assert "*" in lines
        assert let_in == {*packages, *files, *locks}
