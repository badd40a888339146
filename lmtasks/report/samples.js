// Samples: one task's shown examples, two of its variants side by side, by kind, class, length and words.
const place = document.getElementById("sample-data");
if (place) {
  const tasks = JSON.parse(place.textContent), box = document.getElementById("sample-box"), at = name => box.querySelector(`[name=${name}]`);
  const make = (tag, content, attributes = {}) => {
    const made = document.createElement(tag);
    if (content !== null) made.textContent = content;
    for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
    return made;
  };
  const fill = (select, names, chosen) => {
    select.replaceChildren(...names.map(([value, shown]) => make("option", shown, { value })));
    select.value = chosen;
  };
  const AT_ONCE = 12;
  let task = tasks[0], shown = AT_ONCE;

  // Words that two texts do not have in common (longest common subsequence); of scripts without blanks, characters.
  const pieces = text => text.match(/[㐀-鿿぀-ヿ가-힯]|[^\s㐀-鿿぀-ヿ가-힯]+|\s+/g) ?? [];
  const marked = (text, other, into) => {
    const [a, b] = [pieces(text), pieces(other)];
    if (a.length * b.length > 250000 || text === other) { into.append(text); return into; }
    const table = Array.from({ length: a.length + 1 }, () => new Uint16Array(b.length + 1));
    for (let i = a.length - 1; i >= 0; i--) for (let j = b.length - 1; j >= 0; j--)
      table[i][j] = a[i] === b[j] ? table[i + 1][j + 1] + 1 : Math.max(table[i + 1][j], table[i][j + 1]);
    let i = 0, j = 0, run = "", differs = false;
    const flush = () => { if (run) into.append(differs ? make("mark", run) : run); run = ""; };
    while (i < a.length) {
      const same = j < b.length && a[i] === b[j];
      if (!same && j < b.length && table[i + 1][j] < table[i][j + 1]) { j++; continue; }
      if (differs === same) { flush(); differs = !same; }
      run += a[i++];
      if (same) j++;
    }
    flush();
    return into;
  };
  const better = (row, one, other) => {
    const [x, y] = [row.values[one], row.values[other]];
    return x !== null && y !== null && x !== y && (task.lower ? x < y : x > y);
  };
  // Words that moved a variant's answer: marked in the text, and in a list that can be read without colours.
  const LISTED = 8;
  const changesOf = (row, number) => row.words?.changes[number];
  const signed = change => `${change > 0 ? "+" : "−"}${Math.abs(change)}`;
  const wordsOf = (row, number) => {
    const changes = changesOf(row, number), moved = row.words.moved[number] ?? {};
    const order = changes.map((_, place) => place).filter(place => changes[place] || moved[place])
      .sort((a, b) => Math.abs(changes[b]) - Math.abs(changes[a])).slice(0, LISTED);
    const line = make("p", null, { class: "moved", title: task.tagged ? say("words that have another tag without a word") : say("points of probability that the answer has by a word") });
    for (const place of order) {
      const one = make("span", null);
      one.append(make("bdi", row.words.pieces[2 * place + 1]), " ", make("b", signed(changes[place])));
      if (moved[place]) one.append(make("i", ` ${say("without it:")} `), make("bdi", moved[place]));
      line.append(one, " ");
    }
    if (!order.length) line.append("–");
    return line;
  };
  const markedWords = (row, number) => {
    const changes = changesOf(row, number), most = Math.max(task.tagged ? 1 : 10, ...changes.map(Math.abs));
    const shown = make("p", null, { class: "asked", dir: "auto" });
    row.words.pieces.forEach((piece, at) => {
      const change = at % 2 ? changes[(at - 1) / 2] : 0, share = Math.round(45 * Math.abs(change) / most);
      if (share < 2) { shown.append(piece); return; }
      const mark = make("span", piece, { class: change > 0 ? "word" : "word against", title: signed(change) });
      mark.style.setProperty("--share", `${share}%`);
      shown.append(mark);
    });
    return shown;
  };
  const answerOf = (row, number, against) => {
    const line = make("p", null, { class: "said-by" }), text = row.answers[number] < 0 ? null : task.texts[row.answers[number]];
    line.append(make("b", task.variants[number]), " ");
    const value = row.values[number];
    line.append(make("span", value === null ? "–" : value === 1 ? "✓" : value === 0 ? "✗" : String(value), { class: "value" }), " ");
    line.append(text === null ? make("i", "–") : marked(text, against, make("bdi", null)));
    if (!changesOf(row, number)) return line;
    const both = document.createDocumentFragment();
    both.append(line, wordsOf(row, number));
    return both;
  };
  const drawRow = (row, one, other) => {
    const card = make("article", null);
    const told = [one, other].find(number => changesOf(row, number));
    const text = told === undefined ? make("p", row.text, { class: "asked", dir: "auto" }) : markedWords(row, told);
    card.append(make("p", `#${row.id}`, { class: "over" }), text);
    const target = make("p", null, { class: "said-by" });
    target.append(make("b", say("right answer")), " ", make("bdi", row.target));
    card.append(target, answerOf(row, one, row.target));
    if (other !== one) card.append(answerOf(row, other, row.target));
    if (task.variants.length > 2) {
      const more = make("details", null), rest = make("summary", say("all variants"));
      more.append(rest);
      more.addEventListener("toggle", () => {
        if (more.open && more.children.length === 1) task.variants.forEach((_, number) => more.append(answerOf(row, number, row.target)));
      });
      card.append(more);
    }
    return card;
  };
  const percent = number => Number.isFinite(number) ? (100 * number).toFixed(1) : "–";
  const drawMatrix = (number, into) => {
    const table = make("table", null, { class: "matrix" }), counts = task.confusion[number], head = make("tr", null);
    table.append(make("caption", task.variants[number]), make("thead", null));
    const others = counts.some(line => line[line.length - 1]);
    const columns = [...task.classes, ...(others ? [say("no class")] : [])];
    head.append(make("th", `${say("right answer")} ↓`, { scope: "col" }));
    for (const name of [...columns, "P", "R", "F1"]) head.append(make("th", name, { scope: "col" }));
    table.tHead.append(head);
    const body = make("tbody", null), most = Math.max(1, ...counts.flat());
    task.classes.forEach((name, line) => {
      const row = make("tr", null);
      row.append(make("th", name, { scope: "row" }));
      columns.forEach((_, column) => {
        const cell = make("td", String(counts[line][column]));
        cell.style.setProperty("--share", `${Math.round(45 * counts[line][column] / most)}%`);
        if (column === line) cell.className = "hit";
        row.append(cell);
      });
      const hits = counts[line][line], answered = counts.reduce((sum, each) => sum + each[line], 0), there = counts[line].reduce((sum, each) => sum + each, 0);
      const [precision, recall] = [hits / answered, hits / there], f1 = 2 * hits / (answered + there);
      for (const value of [precision, recall, f1]) row.append(make("td", percent(value)));
      body.append(row);
    });
    table.append(body);
    into.append(table);
  };
  const draw = () => {
    const [one, other] = [Number(at("one").value), Number(at("other").value)];
    const words = at("words").value.toLowerCase().split(/\s+/).filter(Boolean), label = at("label").value;
    const [least, most] = [Number(at("least").value) || 0, Number(at("most").value) || Infinity];
    const kinds = {
      all: () => true, differ: row => row.part === "differ", fail: row => row.part === "fail",
      pair: row => row.answers[one] !== row.answers[other],
      wins: row => better(row, one, other), losses: row => better(row, other, one), words: row => row.words,
    };
    const rows = task.rows.filter(row => {
      const own = [row.text, row.target, ...row.answers.map(each => task.texts[each] ?? "")].join(" ").toLowerCase();
      return kinds[at("kind").value](row) && (label === "" || row.target === label)
        && row.text.length >= least && row.text.length <= most && words.every(word => own.includes(word));
    });
    box.querySelector(".count").textContent = `${rows.length} / ${task.rows.length} / ${task.n.toLocaleString("en")}`;
    box.querySelector(".cards").replaceChildren(...rows.slice(0, shown).map(row => drawRow(row, one, other)));
    at("more").hidden = rows.length <= shown;
    const matrices = box.querySelector(".matrices");
    matrices.replaceChildren();
    if (task.classes.length) for (const number of new Set([one, other])) drawMatrix(number, matrices);
    const files = box.querySelector(".files");
    files.replaceChildren();
    for (const number of new Set([one, other])) files.append(make("a", task.files[number], { href: task.files[number] }), " ");
  };
  const open = () => {
    task = tasks[Number(at("task").value)];
    const names = task.variants.map((name, number) => [number, name]);
    fill(at("one"), names, 0);
    fill(at("other"), names, Math.min(1, names.length - 1));
    const targets = [...new Set(task.rows.map(row => row.target))].sort();
    at("label").closest("label").hidden = targets.length > 40;
    fill(at("label"), [["", "–"], ...(targets.length > 40 ? [] : targets.map(each => [each, each]))], "");
    restart();
  };
  const restart = () => { shown = AT_ONCE; draw(); };
  fill(at("task"), tasks.map((each, number) => [number, each.name]), 0);
  at("task").addEventListener("change", open);
  for (const name of ["one", "other", "kind", "label", "least", "most", "words"]) at(name).addEventListener("input", restart);
  at("more").addEventListener("click", () => { shown += 3 * AT_ONCE; draw(); });
  addEventListener("language", draw);
  box.hidden = false;
  open();
}
