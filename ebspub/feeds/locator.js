"use strict";
/* The table of images: filtered and sorted in memory, and put on the page a slice at a time. */
(() => {
  const COLUMNS = [
    { key: "region", name: "Region" },
    { key: "name", name: "Name" },
    { key: "version", name: "Version" },
    { key: "arch", name: "Arch" },
    { key: "type", name: "Instance type" },
    { key: "release", name: "Release" },
    { key: "ami", name: "AMI ID", code: true },
    { key: "aki", name: "AKI ID", code: true },
  ];
  const AMI = 6;
  const SLICE = 100;
  const HEADER_ROWS = 2;

  const at = (id) => document.getElementById(id);
  const table = at("images"), body = at("rows"), status = at("status");
  const rows = releases.rows;
  const lower = rows.map((row) => row.map((cell) => cell.toLowerCase()));
  const state = { filters: COLUMNS.map(() => ""), column: -1, down: false };
  const inputs = [], heads = [];
  let found = rows.map((_, number) => number);
  let shown = 0;
  let telling;

  const make = (tag, attributes = {}, ...children) => {
    const element = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
    element.append(...children);
    return element;
  };

  const plural = (count) => `${count.toLocaleString("en")} image${count === 1 ? "" : "s"}`;

  /* A screen reader is told once the typing stops, and not of every letter. */
  const tell = (text, now) => {
    clearTimeout(telling);
    telling = setTimeout(() => { status.textContent = text; }, now ? 0 : 250);
  };

  const copy = async (text, button) => {
    let done = false;
    try {
      await navigator.clipboard.writeText(text);
      done = true;
    } catch {
      /* Not allowed, or no clipboard here: by a selection, as of old. */
      const field = make("textarea", { readonly: "", "aria-hidden": "true", tabindex: "-1" });
      field.value = text;
      field.style.position = "fixed";
      field.style.opacity = "0";
      document.body.append(field);
      field.select();
      done = document.execCommand("copy");
      field.remove();
      button.focus();
    }
    tell(done ? `Copied ${text}` : `${text} could not be copied`, true);
    button.textContent = done ? "Copied" : "Failed";
    setTimeout(() => { button.textContent = "Copy"; }, 1500);
  };

  const amiCell = (row) => {
    const id = row[AMI], link = releases.launch[row[0]];
    const button = make("button", { type: "button", class: "copy", "aria-label": `Copy ${id}` }, "Copy");
    button.addEventListener("click", () => copy(id, button));
    const name = link
      ? make("a", { href: link + encodeURIComponent(id), "aria-label": `Launch ${id}`, title: "Launch in the console" }, id)
      : make("span", {}, id);
    return [name, " ", button];
  };

  const rowOf = (number, place) => {
    const row = rows[number];
    const line = make("tr", { role: "row", "aria-rowindex": String(place + HEADER_ROWS + 1) });
    COLUMNS.forEach((column, index) => {
      const cell = make("td", { role: "cell", "data-name": column.name });
      if (column.code) cell.classList.add("code");
      if (index === AMI) {
        cell.classList.add("ami");
        cell.append(...amiCell(row));
      } else {
        cell.textContent = row[index];
        if (!row[index]) cell.classList.add("empty");
      }
      line.append(cell);
    });
    return line;
  };

  const more = () => {
    const slice = document.createDocumentFragment();
    const end = Math.min(found.length, shown + SLICE);
    for (; shown < end; shown++) slice.append(rowOf(found[shown], shown));
    body.append(slice);
    at("more").hidden = shown >= found.length;
  };

  const draw = () => {
    body.textContent = "";
    shown = 0;
    more();
    table.setAttribute("aria-rowcount", String(found.length + HEADER_ROWS));
    at("none").hidden = found.length > 0;
    const filtered = state.filters.some(Boolean);
    at("clear").hidden = !filtered;
    return filtered ? `${plural(found.length)} of ${rows.length.toLocaleString("en")}` : plural(rows.length);
  };

  const select = () => {
    const wanted = state.filters
      .map((text, column) => [column, text.toLowerCase().split(/\s+/).filter(Boolean)])
      .filter(([, words]) => words.length);
    found = [];
    for (let number = 0; number < rows.length; number++) {
      const cells = lower[number];
      if (wanted.every(([column, words]) => words.every((word) => cells[column].includes(word)))) found.push(number);
    }
    if (state.column >= 0) {
      /* 10.04 comes after 9.10; what is hexadecimal has no numbers in it. */
      const order = COLUMNS[state.column].code ? undefined : new Intl.Collator("en", { numeric: true }).compare;
      const values = new Map();
      const names = [...new Set(found.map((number) => rows[number][state.column]))].sort(order);
      names.forEach((name, rank) => values.set(name, rank));
      const sign = state.down ? -1 : 1;
      const rank = (number) => values.get(rows[number][state.column]);
      found.sort((one, other) => sign * (rank(one) - rank(other)) || one - other);
    }
  };

  const update = (remember = true) => {
    select();
    tell(draw());
    heads.forEach((head, column) => {
      head.setAttribute("aria-sort", column !== state.column ? "none" : state.down ? "descending" : "ascending");
    });
    if (remember) write();
  };

  /* What is looked for is part of the address, to be kept and sent to others. */
  const write = () => {
    const address = new URLSearchParams();
    COLUMNS.forEach((column, index) => { if (state.filters[index]) address.set(column.key, state.filters[index]); });
    if (state.column >= 0) address.set("sort", (state.down ? "-" : "") + COLUMNS[state.column].key);
    history.replaceState(null, "", `#${address}`);
  };

  const read = () => {
    const address = new URLSearchParams(location.hash.slice(1));
    COLUMNS.forEach((column, index) => {
      state.filters[index] = address.get(column.key) ?? "";
      inputs[index].value = state.filters[index];
    });
    const sort = address.get("sort") ?? "";
    state.down = sort.startsWith("-");
    state.column = COLUMNS.findIndex((column) => column.key === sort.replace(/^-/, ""));
  };

  COLUMNS.forEach((column, index) => {
    const button = make("button", { type: "button" }, column.name);
    button.addEventListener("click", () => {
      state.down = state.column === index && !state.down;
      state.column = index;
      update();
    });
    heads.push(make("th", { role: "columnheader", scope: "col", "aria-sort": "none" }, button));
    const input = make("input", {
      type: "search",
      placeholder: column.name,
      "aria-label": `Filter by ${column.name}`,
      autocomplete: "off",
      autocapitalize: "off",
      spellcheck: "false",
    });
    input.addEventListener("input", () => {
      state.filters[index] = input.value.trim();
      update();
    });
    inputs.push(input);
    at("filters").append(make("td", { role: "cell" }, input));
  });
  at("heads").append(...heads);

  at("clear").addEventListener("click", () => {
    state.filters.fill("");
    inputs.forEach((input) => { input.value = ""; });
    update();
    inputs[0].focus();
  });
  at("more").addEventListener("click", () => {
    const first = shown;
    more();
    /* The keyboard goes on with the first of what came. */
    body.rows[first]?.querySelector("a, button")?.focus();
  });
  if ("IntersectionObserver" in window) {
    new IntersectionObserver((seen) => {
      if (seen.some((each) => each.isIntersecting) && shown < found.length) more();
    }, { rootMargin: "600px" }).observe(at("more"));
  }
  window.addEventListener("hashchange", () => { read(); update(false); });

  read();
  update(false);
  table.setAttribute("aria-busy", "false");
})();
