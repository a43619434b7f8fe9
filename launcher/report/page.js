"use strict";
(() => {
  const filter = document.getElementById("ranks");
  const told = document.getElementById("shown");
  const marked = [...document.querySelectorAll("[data-rank]")];
  const total = new Set(marked.map((each) => each.dataset.rank)).size;

  // "0-3,7" as a function of a rank; an empty text means all; null: it can't be read.
  const wanted = (text) => {
    const parts = text.split(",").map((part) => part.trim()).filter(Boolean);
    const ranges = parts.map((part) => /^(\d{1,9})(?:\s*-\s*(\d{1,9}))?$/.exec(part));
    if (ranges.includes(null)) return null;
    const pairs = ranges.map(([, from, to]) => [Number(from), Number(to ?? from)]);
    return (rank) => !pairs.length || pairs.some(([from, to]) => from <= rank && rank <= to);
  };

  const apply = () => {
    const isWanted = wanted(filter.value);
    filter.setAttribute("aria-invalid", String(isWanted === null));
    if (isWanted === null) {
      told.textContent = "Give ranks such as 0-3,7";
      return;
    }
    const shown = new Set();
    for (const each of marked) {
      const rank = Number(each.dataset.rank);
      each.hidden = rank >= 0 && !isWanted(rank);
      if (!each.hidden) shown.add(each.dataset.rank);
    }
    told.textContent = `${shown.size} of ${total} ranks`;
  };

  // A link to something that is hidden, or folded, shows it first.
  const reveal = () => {
    const target = document.getElementById(decodeURIComponent(location.hash.slice(1)));
    if (!target) return;
    if (target.closest("[hidden]")) {
      filter.value = "";
      apply();
    }
    for (let each = target; each; each = each.parentElement) {
      if (each.tagName === "DETAILS") each.open = true;
    }
    target.scrollIntoView();
    target.focus({ preventScroll: true });
  };

  if (filter) {
    document.querySelector(".filter").hidden = false;
    filter.addEventListener("input", apply);
    apply();
  }
  addEventListener("hashchange", reveal);
  if (location.hash) reveal();
})();
