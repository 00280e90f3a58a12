// The headings of a table sort its rows: rising, falling, then as they came.
{
  const NUMBER = /^\[?([+-]?(?:inf|[\d,]*\.?\d+(?:e[+-]?\d+)?))(?=$|[\s,\]])/;
  // Of a text: 1e-4 in "tpr@far=1e-4" is one number, and "v1.10" holds two.
  const WITHIN = /((?<![\w.])(?:\d*\.)?\d+(?:e[+-]?\d+)?(?![\w.])|\d+)/;
  const [NUMBERS, TEXTS, NOTHING] = [0, 1, 2];
  const alphabet = new Intl.Collator("en");

  const read = cell => {
    const shown = [...cell.childNodes].filter(node => node.nodeName != "SMALL");
    const text = shown.map(node => node.textContent).join("").trim().replace(/^\* /, "");
    if (text == "" || text == "-") return { kind: NOTHING, parts: [] };
    const parts = text.split(WITHIN);
    const found = NUMBER.exec(text);
    if (!found || cell.nodeName == "TH" && found[0] != text) return { kind: TEXTS, parts };
    const unit = / (%|points)/.test(text) || "percent" in cell.dataset ? 100 : 1;
    return { kind: NUMBERS, value: found[1].replaceAll(",", "").replace("inf", "Infinity") / unit };
  };
  const compare = (a, b) => {
    if (a.kind == NUMBERS) return (a.value > b.value) - (a.value < b.value);
    const at = a.parts.findIndex((part, i) => part != b.parts[i]);
    if (at < 0 || at >= b.parts.length) return a.parts.length - b.parts.length;
    return at % 2 ? a.parts[at] - b.parts[at] : alphabet.compare(a.parts[at], b.parts[at]);
  };
  const sorted = (rows, column, sign) => {
    const cells = new Map(rows.map(row => [row, read(row.cells[column])]));
    const order = (a, b) => a.kind - b.kind || sign * compare(a, b);
    return [...rows].sort((row, other) => order(cells.get(row), cells.get(other)));
  };

  for (const { tHead, tBodies: [body] } of document.querySelectorAll("table")) {
    const rows = [...body.rows];
    for (const heading of rows.length > 2 ? tHead.rows[tHead.rows.length - 1].cells : []) {
      const button = document.createElement("button");
      button.append(...heading.childNodes);
      heading.append(button);
      button.onclick = () => {
        const next = { null: "ascending", ascending: "descending" }[heading.getAttribute("aria-sort")];
        for (const each of tHead.querySelectorAll("th")) each.removeAttribute("aria-sort");
        if (next) heading.setAttribute("aria-sort", next);
        const sign = next == "ascending" ? 1 : -1;
        body.append(...(next ? sorted(rows, heading.cellIndex, sign) : rows));
      };
    }
  }
}
