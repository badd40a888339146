// Sorting a table by a click on a column's title; without scripts the tables stand in the plan's order.
for (const button of document.querySelectorAll("button.sort")) button.addEventListener("click", () => {
  const head = button.closest("th"), place = head.cellIndex, table = head.closest("table");
  const down = head.getAttribute("aria-sort") === "descending";
  for (const other of head.parentNode.children) other.removeAttribute("aria-sort");
  head.setAttribute("aria-sort", down ? "ascending" : "descending");
  const key = row => row.children[place].dataset.sort;
  const order = (a, b) => {
    const [x, y] = [key(a), key(b)];
    if (x === undefined || y === undefined) return (x === undefined) - (y === undefined);
    const by = isNaN(x) || isNaN(y) ? x.localeCompare(y) : x - y;
    return down ? by : -by;
  };
  for (const body of table.tBodies) body.append(...[...body.rows].filter(r => !r.matches(".group")).sort(order));
});
addEventListener("beforeprint", () => document.querySelectorAll("details").forEach(d => d.open = true));
