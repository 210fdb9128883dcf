"use strict";
// One page, three views. Text from judges and people reaches the document as text nodes only.

const $ = (id) => document.getElementById(id);
const RETRY_MS = 1000;

function make(tag, properties = {}, ...children) {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children.filter((child) => child !== null));
  return element;
}

function fresh() {
  return Array.from(crypto.getRandomValues(new Uint8Array(12)), (b) => b.toString(16).padStart(2, "0")).join("");
}

// A duplicated tab inherits the session storage of the first one and must not share its leases: only a reload
// keeps the name of the tab, and with it what can be undone.
const reloaded = performance.getEntriesByType("navigation")[0]?.type === "reload";
const tab = (reloaded && sessionStorage.getItem("tab")) || fresh();
sessionStorage.setItem("tab", tab);

const page = { state: null, person: "", view: "", busy: true, items: [], labels: "", only: "all", list: [], at: 0, item: null };
window.armchair = page;

// ---- talking to the server

class Refused extends Error {
  constructor(status, detail) {
    super(typeof detail === "string" ? detail : "the server refused that request");
    this.status = status;
  }
}

async function call(path, body) {
  const options = body === undefined ? {} : {
    method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(body),
  };
  for (;;) {
    let response;
    try {
      response = await fetch(`api/${path}`, options);
    } catch {
      note("the server cannot be reached; trying again …", true);
      await new Promise((done) => setTimeout(done, RETRY_MS));
      continue;
    }
    if (!$("note").dataset.keep) hush();
    const found = await response.json().catch(() => ({}));
    if (!response.ok) throw new Refused(response.status, found.detail);
    return found;
  }
}

// What is decided is kept until the server has it, so that a reload while the server is away sends it again; its
// id makes sending twice harmless.
async function decide(path, body) {
  const whole = { ...body, person: page.person, tab, id: fresh() };
  sessionStorage.setItem("pending", JSON.stringify({ path, body: whole }));
  try {
    return await call(path, whole);
  } finally {
    sessionStorage.removeItem("pending");
  }
}

async function resend() {
  const pending = JSON.parse(sessionStorage.getItem("pending") || "null");
  if (pending === null) return;
  try {
    await call(pending.path, pending.body);
  } catch (error) {
    if (!(error instanceof Refused)) throw error;
    tell(error.message);
  }
  sessionStorage.removeItem("pending");
}

let hushing = 0;
function note(text) {
  $("note").textContent = text;
  $("note").hidden = false;
}
function hush() {
  $("note").hidden = true;
  delete $("note").dataset.keep;
}
function tell(text) {
  note(text);
  $("note").dataset.keep = "1";
  clearTimeout(hushing);
  hushing = setTimeout(hush, 6000);
}

// ---- questions and answers

const PAIR = [
  { keys: ["ArrowLeft", "a", "1"], shown: "←", words: "left", outcome: "first" },
  { keys: ["ArrowUp", "w", "t"], shown: "↑", words: "same", outcome: "tie" },
  { keys: ["ArrowRight", "d", "2"], shown: "→", words: "right", outcome: "second" },
];
const SKIP = { keys: [" ", "s"], shown: "space", words: "can't tell", outcome: "unsure" };
const RUBRIC = ["nothing done", "on its way", "in touch", "partly achieved", "achieved"];

function choices(kind) {
  if (kind === "preference") return [...PAIR, SKIP];
  if (kind === "success") {
    return [
      { keys: ["y"], shown: "Y", words: "yes", outcome: "rated", value: 1 },
      { keys: ["n"], shown: "N", words: "no", outcome: "rated", value: 0 }, SKIP,
    ];
  }
  if (kind === "progress") {
    return [...RUBRIC.map((words, k) => ({ keys: [`${k + 1}`], shown: `${k + 1}`, words, outcome: "rated", value: k + 1 })), SKIP];
  }
  const tenths = Array.from({ length: 10 }, (_, k) => ({ keys: [`${k}`], shown: `${k}`, words: (k / 10).toFixed(1), outcome: "rated", value: k / 10 }));
  return [...tenths, { keys: ["Enter", "x"], shown: "enter", words: "1.0", outcome: "rated", value: 1 }, SKIP];
}

function spoken(kind, outcome, value) {
  const names = { first: "left", second: "right", tie: "same", unsure: "can't tell", malformed: "could not be read" };
  if (outcome !== "rated") return names[outcome] || outcome;
  if (kind === "success") return value >= 0.5 ? "yes" : "no";
  return kind === "progress" ? `${value} of 5` : value.toFixed(2);
}

const QUESTIONS = {
  preference: "Which picture shows it achieved better?", score: "How well is it achieved, from 0 to 1?",
  progress: "Which step is reached?", success: "Is it achieved?",
};

function showGoal(goal, kind, layout) {
  $("goal").replaceChildren("The goal is ", make("b", { textContent: goal }), `. ${QUESTIONS[kind]}`,
    layout ? make("small", { textContent: layout }) : "");
}

async function showPictures(item, kind, captions) {
  const sides = kind === "preference" ? ["first", "second"] : ["one"];
  const figures = item.pictures.map((digest, k) => {
    const image = make("img", { src: `pictures/${digest}.png`, alt: sides[k] === "one" ? "the picture" : `${["left", "right"][k]} picture`, draggable: false });
    const figure = make("figure", {}, image, captions ? make("figcaption", { textContent: captions[k] }) : null);
    figure.dataset.side = sides[k];
    if (kind === "preference") figure.addEventListener("click", () => act(PAIR[k === 0 ? 0 : 2]));
    return figure;
  });
  $("pictures").replaceChildren(...figures);
  // Nobody answers about a picture that is not there yet.
  await Promise.all(figures.map((figure) => figure.firstChild.decode()));
}

function showKeys(list) {
  $("keys").replaceChildren(...list.map((choice) => {
    const button = make("button", { type: "button", className: choice.quiet ? "quiet" : "" }, make("kbd", { textContent: choice.shown }), choice.words);
    button.addEventListener("click", () => { button.blur(); act(choice); });
    return button;
  }));
}

const UNDO = { keys: ["Backspace", "u"], shown: "⌫", words: "undo", does: "undo", quiet: true };
const BACK = { keys: ["k", "PageUp"], shown: "K", words: "previous", does: "previous", quiet: true };
const ON = { keys: ["j", "PageDown"], shown: "J", words: "next", does: "following" };

function within(section) {
  for (const id of ["stage", "empty", "figures"]) $(id).hidden = id !== section;
}

function empty(title, words) {
  $("empty").replaceChildren(make("b", { textContent: title }), words);
  within("empty");
}

// ---- view: answer

async function nextItems(found) {
  page.items = found.items;
  page.item = found.items[0] || null;
  const { answered, total, mine, elsewhere } = found.progress;
  $("bar").firstElementChild.style.width = `${total ? (100 * answered) / total : 0}%`;
  $("count").textContent = `${answered} / ${total}` + (mine < answered ? ` · ${mine} by you` : "");
  if (page.item === null) {
    const rest = total - answered;
    if (rest === 0) empty("All answered", `${total} answers are kept. More: another --seed, or more --pairs.`);
    else if (elsewhere) empty("Nothing free right now", `${rest} left, ${elsewhere} of them open in other tabs. Reload to look again.`);
    else empty("Your part is done", `${rest} further votes are left for other people.`);
    showKeysWhenEmpty();
    return;
  }
  within("stage");
  showGoal(page.item.goal, page.item.kind, page.item.layout);
  showKeys([...choices(page.item.kind), UNDO]);
  for (const digest of page.items[1]?.pictures || []) new Image().src = `pictures/${digest}.png`;
  await showPictures(page.item, page.item.kind, null);
}

function showKeysWhenEmpty() {
  const button = make("button", { type: "button", textContent: "undo the last answer", className: "undo" });
  button.addEventListener("click", () => act(UNDO));
  $("empty").append(make("p", {}, button));
}

const answering = {
  async open() {
    $("filters").hidden = $("said").hidden = true;
    await nextItems(await call("next", { person: page.person, tab }));
  },
  choices: () => (page.item ? [...choices(page.item.kind), UNDO] : [UNDO]),
  async act(choice) {
    if (choice.does === "undo") {
      const found = await decide("undo", {});
      if (!found.undone) tell("nothing to undo in this tab");
      await nextItems(found);
      return;
    }
    if (page.item === null) return;
    const { place, number } = page.item;
    try {
      await nextItems(await decide("answer", { place, number, outcome: choice.outcome, value: choice.value ?? null }));
    } catch (error) {
      if (!(error instanceof Refused) || error.status !== 409) throw error;
      tell(error.message);
      await this.open();
    }
  },
};

// ---- view: judge

function chips(counts) {
  const select = make("select", {}, ...page.state.sets.map((set) => make("option", { value: set.labels, textContent: set.labels, selected: set.labels === page.labels })));
  select.addEventListener("change", () => { page.labels = select.value; page.only = "all"; select.blur(); open("judge"); });
  const buttons = page.state.filters.map(({ name, words }) => {
    const button = make("button", { type: "button", textContent: `${words} ${counts[name]}`, disabled: counts[name] === 0 && name !== page.only });
    button.setAttribute("aria-pressed", String(name === page.only));
    button.dataset.filter = name;
    button.addEventListener("click", () => { page.only = name; button.blur(); open("judge"); });
    return button;
  });
  $("filters").replaceChildren(select, ...buttons);
}

function sayAnswers(item) {
  const cards = item.answers.map((answer) => {
    const card = make("article", { className: answer.outcome === "malformed" ? "bad" : "" },
      make("h3", {}, `${item.judge}: ${spoken(item.kind, answer.outcome, answer.value)}`,
        make("small", { textContent: [answer.swapped ? "asked with the right picture first" : "", answer.vote ? `vote ${answer.vote + 1}` : ""].filter(Boolean).join(", ") })),
      make("p", { textContent: answer.text }));
    if (answer.description) card.append(make("details", {}, make("summary", { textContent: "what it saw" }), make("p", { textContent: answer.description })));
    return card;
  });
  if (item.overruling) {
    const { person, outcome, value } = item.overruling;
    cards.unshift(make("article", { className: "person" },
      make("h3", { textContent: `${person}: ${spoken(item.kind, outcome, value)}` }), make("p", { textContent: "counts instead of the judge's answer" })));
  }
  if (!item.same_pictures) cards.unshift(make("article", { className: "bad" }, make("h3", { textContent: "not the pictures that the judge saw" }), make("p", { textContent: "another --stream, or the dataset changed since" })));
  $("said").replaceChildren(...cards);
  $("said").hidden = false;
}

async function showItem(item) {
  page.item = item;
  within("stage");
  showGoal(item.goal, item.kind, item.layout);
  showKeys([...choices(item.kind), UNDO, BACK, ON]);
  sayAnswers(item);
  await showPictures(item, item.kind, item.frames.map((frame) => `${frame.episode_id}, frame ${frame.index}`));
  const sides = new Set(item.answers.map((answer) => answer.outcome));
  for (const figure of $("pictures").children) {
    const side = figure.dataset.side;
    if (item.overruling) figure.classList.toggle("person", item.overruling.outcome === side);
    else figure.classList.toggle("judge", sides.size === 1 && sides.has(side));
  }
}

async function step(by) {
  const there = Math.min(Math.max(page.at + by, 0), page.list.length - 1);
  if (by && there === page.at) tell(by > 0 ? "that was the last one" : "that was the first one");
  page.at = there;
  const { labels, draw, position } = page.list[there].place;
  $("count").textContent = `${there + 1} / ${page.list.length}`;
  $("bar").firstElementChild.style.width = `${(100 * (there + 1)) / page.list.length}%`;
  await showItem(await call(`verdict?${new URLSearchParams({ labels, draw, position })}`));
}

async function listed() {
  const found = await call(`verdicts?${new URLSearchParams({ labels: page.labels, only: page.only })}`);
  chips(found.counts);
  return found.items;
}

const judging = {
  async open() {
    if (page.state.sets.length === 0) {
      empty("No judge has answered yet", "armchair label DATASET asks one.");
      return;
    }
    page.labels ||= page.state.sets[0].labels;
    $("filters").hidden = false;
    [page.list, page.at] = [await listed(), 0];
    if (page.list.length === 0) {
      page.item = null;
      empty("Nothing here", page.only === "all" ? "This judge has not answered yet." : "No item is like that.");
      return;
    }
    await step(0);
  },
  choices: () => (page.item ? [...choices(page.item.kind), UNDO, BACK, ON] : [UNDO]),
  async act(choice) {
    if (choice.does === "following" || choice.does === "previous") return step(choice.does === "following" ? 1 : -1);
    if (choice.does === "undo") {
      const { item } = await decide("undo-overruling", {});
      if (item === null) return tell("nothing to undo in this tab");
      await listed();
      const at = page.list.findIndex(({ place }) => place.position === item.place.position && place.draw === item.place.draw);
      if (at >= 0) return (page.at = at), step(0);
      return showItem(item);
    }
    try {
      const seen = page.item.overruling?.key || "";
      await showItem(await decide("overrule", { place: page.item.place, outcome: choice.outcome, value: choice.value ?? null, seen }));
    } catch (error) {
      if (!(error instanceof Refused) || error.status !== 409) throw error;
      tell(error.message);
      return step(0);
    }
    await listed();
  },
};

// ---- view: figures

const percent = (share) => (share === null || share === undefined ? "" : `${(100 * share).toFixed(0)} %`);
const dollars = (usd) => usd.toFixed(2);

function table(heads, rows, left = 1) {
  const cell = (tag, k, content) => make(tag, { className: k < left ? "l" : "" }, content);
  return make("table", {}, make("thead", {}, make("tr", {}, ...heads.map((head, k) => cell("th", k, head)))),
    make("tbody", {}, ...rows.map((row) => make("tr", {}, ...row.map((content, k) => cell("td", k, content))))));
}

function kappaBar({ kappa, low, high }) {
  if (kappa === null) return "";
  const at = (value) => `${100 * Math.min(Math.max(value, 0), 1)}%`;
  const range = make("i"), point = make("b");
  range.style.left = at(low);
  range.style.right = `${100 - 100 * Math.min(Math.max(high, 0), 1)}%`;
  point.style.left = `calc(${at(kappa)} - 1px)`;
  return make("span", { className: "kappa" }, range, point);
}

const counting = {
  async open() {
    const found = await call("figures");
    const box = make("div");
    box.append(make("h2", { textContent: "Agreement" }));
    if (found.agreements.length) {
      box.append(table(["", "", "question", "both answered", "both decided", "agree", "κ", "95 %", ""],
        found.agreements.map((a) => [a.first, a.second, a.kind, String(a.both), String(a.decided), percent(a.share),
          a.kappa === null ? "" : a.kappa.toFixed(2), a.kappa === null ? "" : `${a.low.toFixed(2)} to ${a.high.toFixed(2)}`, kappaBar(a)]), 3),
        make("p", { textContent: "Of people, only answers given without the judge's answer in sight. κ is Cohen's: 0 is chance, 1 is full agreement." }));
    } else {
      box.append(make("p", { textContent: "Nobody judged the same pictures as somebody else yet. armchair review DATASET --of LABELS puts a judge's pairs to people." }));
    }
    box.append(make("h2", { textContent: "Label sets" }));
    for (const set of found.sets) {
      box.append(make("p", { textContent: `${set.labels}: ${set.pairs} pairs or frames, ${set.answered} of ${set.questions} questions answered, ${found.overruled[set.labels] || 0} overruled` }));
      box.append(table(["task", "answers", "can't tell (−1)", "malformed", "swap disagrees", "first named", "votes differ"],
        set.reports.map((r) => [r.task, String(r.answers), percent(r.unsure_rate), percent(r.malformed_rate), percent(r.swap_disagreement), percent(r.first_share), percent(r.vote_disagreement)])));
    }
    box.append(make("h2", { textContent: `Cost so far: ${dollars(found.cost_usd)} USD, ${found.calls} calls` }));
    box.append(table(["judge", "answers", "calls", "tokens in", "tokens out", "USD"],
      found.costs.map((c) => [c.judge, String(c.answers), String(c.calls), String(c.input_tokens), String(c.output_tokens), dollars(c.cost_usd)])));
    $("figures").replaceChildren(box);
    within("figures");
  },
  choices: () => [],
};

// ---- the page

const VIEWS = { answer: answering, judge: judging, figures: counting };

async function alone(work) {
  page.busy = true;
  try {
    await work();
  } catch (error) {
    tell(error.message);
  } finally {
    page.busy = false;
  }
}

function open(view) {
  page.view = view;
  history.replaceState(null, "", `#${view}`);
  for (const button of $("tabs").children) button.toggleAttribute("aria-current", button.dataset.view === view);
  $("bar").firstElementChild.style.width = 0;
  return alone(() => VIEWS[view].open());
}

function act(choice) {
  if (!page.busy) alone(() => VIEWS[page.view].act(choice));
}

document.addEventListener("keydown", (event) => {
  if (event.target.matches("input, select, textarea") || event.altKey || event.metaKey) return;
  const undoing = event.ctrlKey && event.key === "z";
  if ((event.ctrlKey && !undoing) || event.repeat) return;
  const key = undoing ? "Backspace" : event.key.length === 1 ? event.key.toLowerCase() : event.key;
  const choice = VIEWS[page.view]?.choices().find(({ keys }) => keys.includes(key));
  if (choice === undefined) return;
  event.preventDefault();
  act(choice);
});

window.addEventListener("pagehide", () => {
  // Where it does not arrive, the lease ends by itself.
  const options = { method: "POST", keepalive: true, headers: { "content-type": "application/json" }, body: JSON.stringify({ tab }) };
  fetch("api/release", options).catch(() => {});
});

for (const button of $("tabs").children) button.addEventListener("click", () => { button.blur(); open(button.dataset.view); });
$("person").addEventListener("change", () => {
  page.person = $("person").value.trim();
  sessionStorage.setItem("person", page.person);
  $("person").blur();
  open(page.view);
});

(async () => {
  page.state = await call("state");
  page.person = sessionStorage.getItem("person") || page.state.person;
  $("person").value = page.person;
  $("title").textContent = page.state.title;
  document.title = `armchair review: ${page.state.title}`;
  await resend();
  const wanted = location.hash.slice(1);
  await open(wanted in VIEWS ? wanted : page.state.start);
})();
