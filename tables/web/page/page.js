// Shows what /api/tables tells. Everything from outside becomes text (textContent), never HTML:
// keys and rows may hold any characters.
"use strict";

const REFRESH_MS = 2000;
const WINDOWS_SHOWN = 100;
const at = (id) => document.getElementById(id);
const kinds = new Map();

async function ask(path) {
  const response = await fetch(path, { headers: { Accept: "application/json" } });
  return { ok: response.ok, body: await response.text() };
}

function row(...cells) {
  const line = document.createElement("tr");
  for (const cell of cells) {
    const box = line.insertCell();
    if (cell instanceof Node) box.append(cell);
    else box.textContent = cell;
  }
  return line;
}

function text(words, style) {
  const span = document.createElement("span");
  span.textContent = words;
  span.className = style;
  return span;
}

function offsets(sources) {
  const told = Object.entries(sources).map(([topic, next]) => `${topic} ${next}`);
  return told.join(", ") || "—";
}

function counter(table) {
  const button = document.createElement("button");
  button.type = "button";
  button.textContent = "count";
  button.addEventListener("click", async () => {
    button.disabled = true;
    const { ok, body } = await ask(`/api/tables/${encodeURIComponent(table)}?count=true`);
    const told = JSON.parse(body);
    button.textContent = ok ? told.count.toLocaleString("en") : "count";
    button.title = ok ? "count again" : told.error;
    button.disabled = false;
  });
  return button;
}

function showTables(tables) {
  if (tables.map((each) => each.table).join() === [...kinds.keys()].join()) return;
  kinds.clear();
  for (const each of tables) kinds.set(each.table, each.kind);
  at("tables").replaceChildren(...tables.map((each) => {
    const kind = each.kind === "windowed" ? `windows of ${each.size_ms / 1000} s` : each.kind;
    return row(each.table, kind, String(each.tasks.length), counter(each.table));
  }));
  at("table").replaceChildren(...tables.map((each) => new Option(each.table)));
}

function showWorkers(workers) {
  at("workers").replaceChildren(...workers.flatMap((worker) => {
    const name = worker.worker || "a worker";
    const first = worker.why ? text(`${name} ${worker.why}`, "bad") : name;
    if (!worker.tasks.length) return [row(first, "none", "", "")];
    return worker.tasks.map((task, number) =>
      row(number ? "" : first, task.task, text(task.state, task.state), offsets(task.sources)));
  }));
}

async function refresh() {
  try {
    const { ok, body } = await ask("/api/tables");
    const told = JSON.parse(body);
    if (!ok) throw new Error(told.error);
    at("application").textContent = told.application;
    at("worker").textContent = told.worker;
    showTables(told.tables);
    showWorkers(told.workers);
    at("problem").textContent = "";
  } catch (error) {
    at("problem").replaceChildren(text(`— cannot ask this worker: ${error.message}`, "bad"));
  }
  setTimeout(refresh, REFRESH_MS);
}

// Numbers stay as they were written: JSON.parse would round amounts beyond 2^53.
function spread(json) {
  let depth = 0;
  return json.replace(/"(?:[^"\\]|\\.)*"|\{\}|\[\]|[{}\[\],:]/g, (part) => {
    if (part === "{" || part === "[") return part + "\n" + "  ".repeat(++depth);
    if (part === "}" || part === "]") return "\n" + "  ".repeat(--depth) + part;
    if (part === ",") return ",\n" + "  ".repeat(depth);
    return part === ":" ? ": " : part;
  });
}

function say(words, style = "") {
  at("answered").replaceChildren(text(words, style));
}

async function lookUp(event) {
  event.preventDefault();
  const table = at("table").value;
  const key = at("key").value;
  const path = `/api/tables/${encodeURIComponent(table)}`;
  const windowed = kinds.get(table) === "windowed";
  const query = new URLSearchParams({ key, limit: WINDOWS_SHOWN });
  at("answer").hidden = true;
  try {
    const { ok, body } = await ask(windowed ? `${path}?${query}` : `${path}/${encodeURIComponent(key)}`);
    const told = JSON.parse(body);
    if (!ok) return say(told.error, "bad");
    if (!windowed) say(`${told.task} of ${told.worker} has it, as of ${offsets(told.sources)}`);
    else if (told.rows.length) say(`${told.rows.length} windows${told.next === null ? "" : ", and more"}`);
    else return say(`no window of ${table} for the key ${JSON.stringify(key)}`, "bad");
    at("answer").textContent = spread(body);
    at("answer").hidden = false;
  } catch (error) {
    say(`cannot ask this worker: ${error.message}`, "bad");
  }
}

at("look-up").addEventListener("submit", lookUp);
refresh();
