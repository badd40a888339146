// The page's own script, the only one that it may run. Without it everything can be read, in the plan's order.
"use strict";
const all = (selector, root = document) => [...root.querySelectorAll(selector)];
const text = cell => {
  const copy = cell.cloneNode(true);
  all("sup", copy).forEach(mark => mark.remove());
  all("small", copy).forEach(small => small.prepend(" "));
  return copy.textContent.replace(/\s+/g, " ").trim();
};


// The language: every word that has another one is marked by its number; attributes and options are found by their text.
const pairs = JSON.parse(document.getElementById("words").textContent);
const languages = ["en", "zh"], speaks = () => languages.indexOf(document.documentElement.lang);
const say = word => (pairs.find(([english]) => english === word) ?? [word, word])[speaks()];
document.getElementById("language").hidden = false;
document.getElementById("language").addEventListener("click", event => {
  const before = speaks(), now = 1 - before, other = new Map(pairs.map(pair => [pair[before], pair[now]]));
  document.documentElement.lang = languages[now];
  event.target.textContent = now ? "English" : "中文";
  event.target.lang = languages[before];
  for (const each of all("[data-t]")) each.textContent = pairs[each.dataset.t][now];
  for (const name of ["aria-label", "placeholder"]) for (const each of all(`[${name}]`)) {
    const word = other.get(each.getAttribute(name));
    if (word !== undefined) each.setAttribute(name, word);
  }
  for (const each of all("option[data-word]")) each.textContent = each.dataset.word = other.get(each.dataset.word) ?? each.dataset.word;
  dispatchEvent(new Event("language"));
});

// Sorting: the first click puts the best first, the next one turns the order. Lines stay in their group.
const sort = button => {
  const head = button.closest("th"), place = head.cellIndex, table = head.closest("table");
  const first = "low" in head.dataset ? "ascending" : "descending", other = first === "ascending" ? "descending" : "ascending";
  const order = head.getAttribute("aria-sort") === first ? other : first;
  for (const each of head.parentNode.children) each.removeAttribute("aria-sort");
  head.setAttribute("aria-sort", order);
  const key = row => row.children[place].dataset.sort;
  const compare = (a, b) => {
    const [x, y] = [key(a), key(b)];
    if (x === undefined || y === undefined) return (x === undefined) - (y === undefined);
    const by = isNaN(x) || isNaN(y) ? x.localeCompare(y) : x - y;
    return order === "ascending" ? by : -by;
  };
  for (const body of table.tBodies) body.append(...[...body.rows].filter(row => !row.matches(".group")).sort(compare));
};
all("button.sort").forEach(button => button.addEventListener("click", () => sort(button)));

// Which lines are seen: those that hold the words of the table's filter, and of the variant that a chart was asked for.
let only = null;
const show = box => {
  const words = (box.querySelector(".filter")?.value ?? "").toLowerCase().split(/\s+/).filter(Boolean);
  const table = box.querySelector("table"), names = [...table.tHead.rows[0].cells].map(cell => text(cell.querySelector("button") ?? cell));
  const byColumn = only !== null && table.dataset.corner !== "variant" && names.slice(1).includes(only);
  names.forEach((name, place) => {
    const away = byColumn && place > 0 && name !== only;
    for (const row of table.rows) if (!row.matches(".group") && row.cells[place]) row.cells[place].hidden = away;
  });
  const byLine = only !== null && table.dataset.corner === "variant";
  for (const body of table.tBodies) {
    const group = body.querySelector(".group"), said = group ? group.textContent.toLowerCase() : "";
    let seen = 0;
    for (const row of body.rows) {
      if (row === group) continue;
      const own = `${said} ${row.textContent.toLowerCase()}`;
      const name = row.cells[0].dataset.sort;
      row.hidden = !words.every(word => own.includes(word)) || (byLine && name !== only);
      seen += !row.hidden;
    }
    if (group) group.hidden = !seen;
  }
};
const showOnly = name => {
  only = name === only ? null : name;
  const bar = document.getElementById("only");
  bar.hidden = only === null;
  bar.querySelector("span").textContent = only ?? "";
  all(".table").forEach(show);
  all("[data-variant]").forEach(mark => mark.classList.toggle("dim", only !== null && mark.dataset.variant !== only));
};
document.querySelector("#only button").addEventListener("click", () => showOnly(only));
all("svg [data-variant]").forEach(mark => mark.addEventListener("click", () => showOnly(mark.dataset.variant)));

// Copying: the lines that are seen, in the order that they have.
const lines = table => {
  const groups = all("tr.group", table).length > 0;
  const head = [...table.tHead.rows[0].cells].filter(cell => !cell.hidden).map(text);
  const found = [groups ? ["", ...head] : head];
  for (const body of table.tBodies) {
    const group = body.querySelector(".group");
    for (const row of body.rows) if (row !== group && !row.hidden) {
      const cells = [...row.cells].filter(cell => !cell.hidden).map(text);
      found.push(groups ? [group ? text(group) : "", ...cells] : cells);
    }
  }
  return found;
};
const written = {
  csv: rows => rows.map(row => row.map(cell => /[",\n]/.test(cell) ? `"${cell.replaceAll('"', '""')}"` : cell).join(",")).join("\n") + "\n",
  markdown: rows => {
    const line = row => `| ${row.map(cell => cell.replace(/([\\|`*<>])/g, "\\$1")).join(" | ")} |`;
    return [line(rows[0]), `|${rows[0].map((_, place) => place ? " ---: " : " :--- ").join("|")}|`, ...rows.slice(1).map(line)].join("\n") + "\n";
  },
};
const copy = async content => {
  try { await navigator.clipboard.writeText(content); } catch {
    const area = document.createElement("textarea");
    area.value = content;
    document.body.append(area);
    area.select();
    document.execCommand("copy");
    area.remove();
  }
};
for (const box of all(".table")) {
  const wide = box.querySelector(".wide");
  box.querySelector(".tools").hidden = false;
  box.querySelector(".filter")?.addEventListener("input", () => show(box));
  for (const button of all(".copy", box)) button.addEventListener("click", async () => {
    await copy(written[button.dataset.as](lines(box.querySelector("table"))));
    button.setAttribute("aria-pressed", "true");
    setTimeout(() => button.removeAttribute("aria-pressed"), 1200);
  });
  // A table that goes on to the side says so, until its end is seen.
  const edge = () => wide.classList.toggle("cut", wide.scrollLeft + wide.clientWidth < wide.scrollWidth - 2);
  wide.addEventListener("scroll", edge, { passive: true });
  new ResizeObserver(edge).observe(wide);
}

// Contents: the section that is read now.
const links = new Map(all("nav a").map(link => [link.hash.slice(1), link]));
const seen = new IntersectionObserver(entries => {
  for (const entry of entries) if (entry.isIntersecting) {
    for (const link of links.values()) link.removeAttribute("aria-current");
    links.get(entry.target.id)?.setAttribute("aria-current", "true");
  }
}, { rootMargin: "-10% 0px -80% 0px" });
links.forEach((_, id) => { const section = document.getElementById(id); if (section) seen.observe(section); });

addEventListener("beforeprint", () => all("details").forEach(each => each.open = true));
