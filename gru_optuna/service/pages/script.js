"use strict";
// The only script of the service's pages: it calls the API and follows the events.

const $ = (id) => document.getElementById(id);

function element(name, text = "", attributes = {}) {
  const made = document.createElement(name);
  made.textContent = text;
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  return made;
}

function shown(value) {
  return value === null || value === undefined ? "–" : Number(value.toPrecision(4)).toString();
}

// A problem document is thrown as an Error with its parts.
async function call(path, options = {}) {
  let answer;
  try {
    answer = await fetch(path, options);
  } catch {
    throw new Error("The service doesn't answer. Try again in a moment.");
  }
  if (answer.status === 401) location.href = `/login?next=${encodeURIComponent(location.pathname)}`;
  if (answer.ok) return answer;
  const problem = await answer.json().catch(() => ({}));
  const error = new Error(problem.detail || `The service answered ${answer.status}.`);
  error.status = answer.status;
  error.parts = problem.errors || [];
  throw error;
}

function json(method, content, headers = {}) {
  return { method, body: JSON.stringify(content), headers: { "Content-Type": "application/json", ...headers } };
}

function tell(error) {
  const place = $("problem");
  place.hidden = !error;
  place.textContent = error ? error.message : "";
}

async function upload(file) {
  return (await call(`/upload?name=${encodeURIComponent(file.name)}`, { method: "POST", body: file })).json();
}

// Looks at a list of jobs until a worker has done one of them, or failed.
async function made(list, id) {
  for (;;) {
    const job = (await (await call(list)).json()).find((each) => each.id === id);
    if (job.state === "done") return;
    if (job.state === "failed") throw new Error(job.error);
    await new Promise((resolve) => setTimeout(resolve, 2000));
  }
}

// ---- The list of studies: its rows are renewed in place.

function keepFresh(part) {
  setInterval(async () => {
    if (document.hidden || part.contains(document.activeElement)) return;
    const answer = await fetch(location.href).catch(() => null);
    if (!answer?.ok) return;
    const page = new DOMParser().parseFromString(await answer.text(), "text/html");
    part.replaceChildren(...page.getElementById(part.id).childNodes);
  }, 3000);
}

// ---- A new study.

function newStudy() {
  const uploads = {};
  let draft = null;

  async function redraft(roles = {}) {
    tell(null);
    $("status").textContent = `Reading ${uploads.train.name} …`;
    try {
      const wanted = { data: uploads.train.sha256, test: uploads.test?.sha256, roles };
      draft = await (await call("/v1/drafts", json("POST", wanted))).json();
    } finally {
      $("status").textContent = "";
    }
    $("draft").hidden = false;
    $("reason").textContent = `${draft.task}: ${draft.reason}${draft.sizes ? `. ${draft.sizes}` : ""}.`;
    $("findings").replaceChildren(...draft.findings.map((finding) => {
      const item = element("li", "", { class: finding.blocks ? "bad" : "note" });
      item.append(element("span", "", { class: "sign", "aria-hidden": "true" }), element("span", finding.message));
      return item;
    }));
    const columns = [...new Set([...draft.targets, ...draft.columns])];
    $("target").replaceChildren(...columns.map((name) => element("option", name)));
    $("target").disabled = columns.length < 2;
    $("role").value = draft.role;
    $("role").disabled = draft.task === "forecasting";
    $("toml").value = draft.toml;
    showMistakes([]);
  }

  async function take(part, file) {
    if (!file) return;
    tell(null);
    try {
      $("status").textContent = `Uploading ${file.name} …`;
      uploads[part] = await upload(file);
      if (uploads.train) await redraft();
    } catch (error) {
      tell(error);
    } finally {
      $("status").textContent = "";
    }
  }

  const again = () => redraft({ [$("role").value]: $("target").value }).catch(tell);

  function lineOf({ place, detail }) {
    const said = /\(at line (\d+),/.exec(detail);
    if (said) return Number(said[1]) - 1;
    const [section, key] = (place ?? "").split(".");
    const lines = $("toml").value.split("\n");
    const heading = key ? lines.findIndex((line) => line.trim().startsWith(`[${section}]`)) : -1;
    const name = key ?? section;
    const found = lines.findIndex((line, n) => n > heading && new RegExp(`^\\s*${name}\\s*=`).test(line));
    return found >= 0 ? found : lines.findIndex((line) => line.trim().startsWith(`[${section}]`));
  }

  function showMistakes(parts) {
    $("mistakes").replaceChildren(...parts.map((part) => {
      const item = element("li"), line = lineOf(part);
      if (line >= 0) {
        const go = element("button", `Line ${line + 1}`, { type: "button" });
        go.onclick = () => {
          const before = $("toml").value.split("\n").slice(0, line).join("\n").length + (line ? 1 : 0);
          const end = $("toml").value.indexOf("\n", before);
          $("toml").focus();
          $("toml").setSelectionRange(before, end < 0 ? $("toml").value.length : end);
        };
        item.append(go, ": ");
      }
      item.append(part.detail.replace(/^study file /, ""));
      return item;
    }));
    $("toml").setAttribute("aria-invalid", String(parts.length > 0));
  }

  async function start() {
    const key = crypto.getRandomValues(new Uint32Array(4)).join("-");
    $("start").disabled = true;
    try {
      const headers = { "Content-Type": "application/toml", "Idempotency-Key": key };
      const answer = await call("/v1/studies", { method: "POST", body: $("toml").value, headers });
      location.href = `/study/${encodeURIComponent((await answer.json()).name)}`;
    } catch (error) {
      showMistakes(error.parts?.length ? error.parts : [{ detail: error.message }]);
      $("start").disabled = false;
    }
  }

  $("train").onchange = () => take("train", $("train").files[0]);
  $("test").onchange = () => take("test", $("test").files[0]);
  $("target").onchange = again;
  $("role").onchange = again;
  $("start").onclick = start;
  const drop = $("drop");
  drop.ondragover = (event) => { event.preventDefault(); drop.classList.add("over"); };
  drop.ondragleave = () => drop.classList.remove("over");
  drop.ondrop = (event) => {
    event.preventDefault();
    drop.classList.remove("over");
    take("train", event.dataTransfer.files[0]);
  };
}

// ---- One study.

const SVG = "http://www.w3.org/2000/svg";

function line(name, attributes, text = "") {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.textContent = text;
  return made;
}

function draw(trials, best, metric) {
  const curves = [...trials.values()].filter((trial) => trial.curve.some((value) => value !== null));
  $("curves-text").textContent = curves.length
    ? `The ${metric} on the validation rows after each epoch, ${curves.length} trial${curves.length === 1 ? "" : "s"}: `
      + "the best in orange, those in training green, complete ones blue, pruned ones grey."
    : "No trial has trained an epoch yet.";
  if (!curves.length) return $("curves").replaceChildren();
  const values = curves.flatMap((trial) => trial.curve).filter((value) => value !== null).sort((a, b) => a - b);
  // One that diverged must not flatten all the others.
  const at = (share) => values[Math.min(values.length - 1, Math.floor(share * values.length))];
  const low = at(0.02), high = at(0.98), span = high - low;
  const most = Math.max(2, ...curves.map((trial) => trial.curve.length));
  const width = Math.max(320, $("curves").clientWidth), right = width - 6;
  $("curves").setAttribute("viewBox", `0 0 ${width} 300`);
  const x = (epoch) => 56 + ((right - 56) * (epoch - 1)) / (most - 1);
  const y = (value) => (span > 0 ? 270 - (250 * (Math.min(high, Math.max(low, value)) - low)) / span : 145);
  const parts = [];
  for (const share of span > 0 ? [0, 0.5, 1] : [0]) {
    const value = low + share * span;
    parts.push(line("line", { class: "axis", x1: 56, x2: right, y1: y(value), y2: y(value) }));
    parts.push(line("text", { x: 50, y: y(value) + 4, "text-anchor": "end" }, shown(value)));
  }
  parts.push(line("text", { x: 56, y: 292 }, "epoch 1"));
  parts.push(line("text", { x: right, y: 292, "text-anchor": "end" }, `epoch ${most}`));
  const rank = (trial) => (trial.number === best ? 2 : ["running", "paused"].includes(trial.state) ? 1 : 0);
  for (const trial of curves.sort((a, b) => rank(a) - rank(b)).slice(-300)) {
    const points = trial.curve.flatMap((value, n) => (value === null ? [] : [`${x(n + 1)},${y(value)}`]));
    const kind = trial.number === best ? "best" : trial.state;
    const made = points.length > 1
      ? line("polyline", { class: kind, points: points.join(" ") })
      : line("polyline", { class: kind, points: `${points[0]} ${x(1) + 4},${points[0].split(",")[1]}` });
    made.append(line("title", {}, `trial ${trial.number}, ${trial.state}`));
    parts.push(made);
  }
  $("curves").replaceChildren(...parts);
}

function oneStudy(place) {
  const path = `/v1/studies/${encodeURIComponent(place.dataset.name)}`;
  const trials = new Map();
  let study = null, scheduled = false;

  function showTrials() {
    scheduled = false;
    draw(trials, study?.best?.number, place.dataset.metric);
    const slots = [...trials.values()].filter((trial) => trial.state === "running");
    $("slots").hidden = !slots.length;
    $("slots").tBodies[0].replaceChildren(...slots.map((trial) => {
      const row = element("tr");
      row.append(
        element("th", trial.number, { scope: "row" }), element("td", trial.state),
        element("td", trial.curve.length, { class: "numeric" }),
        element("td", shown(trial.curve.at(-1)), { class: "numeric" }));
      return row;
    }));
  }

  function showStudy() {
    const { trials: counts, budget, best, workers } = study;
    $("state").textContent = study.state;
    $("state").className = `state state-of-${study.state}`;
    const ended = counts.complete + counts.pruned + counts.failed;
    const limit = budget?.trials ? ` of ${budget.trials}` : "";
    $("progress").textContent = `${ended}${limit} trials ended, ${counts.running} in training, ${workers} worker${workers === 1 ? "" : "s"}`
      + (study.state === "queued" && !workers ? ". It waits for a worker: gru-optuna worker." : "");
    $("error").hidden = !study.error;
    $("error").textContent = study.error ?? "";
    $("best").textContent = best
      ? `Best ${study.metric} ${shown(best.value)}, trial ${best.number}${best.confirmed ? ", confirmed on fresh seeds" : ""}.`
      : "";
    $("report").parentElement.hidden = !ended;
    if ($("bundle")) $("bundle").disabled = !best;
    if ($("actions")) {
      const over = ["done", "cancelled"].includes(study.state);
      for (const button of $("actions").querySelectorAll("[data-state]"))
        button.disabled = over || (button.dataset.state === "suspended" && ["suspended", "failed"].includes(study.state))
          || (button.dataset.state === "queued" && !["suspended", "failed"].includes(study.state));
      if (document.activeElement !== $("trials") && budget?.trials) $("trials").value = budget.trials;
    }
  }

  async function change(wanted) {
    tell(null);
    try {
      const answer = await call(path, json("PATCH", wanted, { "If-Match": `"${study.version}"` }));
      study = await answer.json();
      showStudy();
    } catch (error) {
      tell(error);
    }
  }

  let current = null;  // the bundle to predict with
  async function showBundles() {
    const bundles = await (await call(`${path}/bundles`)).json();
    const done = bundles.filter((bundle) => bundle.state === "done");
    current = done.at(-1)?.id ?? null;
    $("bundles").replaceChildren(...done.map((bundle) => {
      const item = element("li");
      item.append(element("a", `Bundle ${bundle.id}`, { href: `/v1/bundles/${bundle.id}`, download: "" }));
      return item;
    }));
    if ($("predict")) $("predict").hidden = current === null;
    const open = bundles.find((bundle) => ["waiting", "running"].includes(bundle.state));
    const failed = bundles.at(-1)?.state === "failed" ? bundles.at(-1).error : "";
    $("bundle-status").textContent = open ? `Bundle ${open.id} is ${open.state === "running" ? "being made" : "waiting for a worker"} …` : failed;
    if (open) setTimeout(() => showBundles().catch(tell), 2000);
  }

  async function predict(file) {
    tell(null);
    try {
      $("predict-status").textContent = `Predicting the rows of ${file.name} …`;
      const list = `/v1/bundles/${current}/predictions`;
      const answer = await call(`${list}?name=${encodeURIComponent(file.name)}`, { method: "POST", body: file });
      await made(list, (await answer.json()).id);
      const where = answer.headers.get("Location");
      const item = element("li");
      item.append(element("a", `Predictions of ${file.name}`, { href: where, download: "" }));
      $("predictions").append(item);
    } catch (error) {
      tell(error);
    } finally {
      $("predict-status").textContent = "";
    }
  }

  addEventListener("resize", () => draw(trials, study?.best?.number, place.dataset.metric));
  const events = new EventSource(`${path}/events`);
  events.addEventListener("study", (event) => { study = JSON.parse(event.data); showStudy(); showTrials(); });
  events.addEventListener("trials", (event) => {
    for (const trial of JSON.parse(event.data)) trials.set(trial.number, trial);
    if (!scheduled) { scheduled = true; requestAnimationFrame(showTrials); }
  });
  events.addEventListener("deleted", () => { events.close(); location.href = "/"; });
  addEventListener("pagehide", () => events.close());

  for (const button of place.querySelectorAll("[data-state]"))
    button.onclick = () => {
      if (button.dataset.state !== "cancelled" || confirm("Cancel this study for good?")) change({ state: button.dataset.state });
    };
  if ($("budget")) $("budget").onclick = () => change({ budget: { trials: Number($("trials").value) } });
  if ($("bundle")) $("bundle").onclick = async () => {
    tell(null);
    try {
      await call(`${path}/bundles`, { method: "POST" });
      await showBundles();
    } catch (error) {
      tell(error);
    }
  };
  if ($("rows")) $("rows").onchange = () => $("rows").files[0] && predict($("rows").files[0]);
  showBundles().catch(tell);
}

if ($("studies")) keepFresh($("studies"));
if ($("drop")) newStudy();
if ($("study")) oneStudy($("study"));
document.documentElement.dataset.ready = "";
