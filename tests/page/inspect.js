// Looks at a page from outside and returns what a reader could not use; the page itself has no scripts.
(() => {
  const problems = [];
  const width = document.documentElement.clientWidth; // innerWidth grows with what overflows on a phone
  const name = (e) => e.tagName.toLowerCase() + (e.getAttribute("class") ? "." + e.getAttribute("class") : "");
  const isUnseen = (e) => e.closest(".unseen, thead") !== null && getComputedStyle(e.closest(".unseen, thead")).clipPath !== "none";
  const scrolled = document.documentElement.scrollWidth;
  if (scrolled > width) problems.push(`scrolls sideways: ${scrolled} of ${width}`);
  for (const e of document.querySelectorAll("body *")) {
    if (e.closest("svg") && e.tagName !== "svg") continue;
    const box = e.getBoundingClientRect();
    if (box.width && !isUnseen(e) && (box.right > width + 0.5 || box.left < -0.5))
      problems.push(`${name(e)} reaches from ${box.left} to ${box.right}`);
  }

  // Text on its background, by WCAG 2: 4.5 to 1, large text 3 to 1.
  const parse = (text) => {
    const part = text.match(/[\d.]+/g).map(Number);
    return part.length < 4 ? [...part, 1] : part;
  };
  const over = (top, alpha, below) => top.slice(0, 3).map((one, i) => one * alpha + below[i] * (1 - alpha));
  const light = (rgb) => {
    const part = rgb.map((one) => (one / 255 <= 0.04045 ? one / 255 / 12.92 : ((one / 255 + 0.055) / 1.055) ** 2.4));
    return 0.2126 * part[0] + 0.7152 * part[1] + 0.0722 * part[2];
  };
  const background = (e) => {
    for (; e; e = e.parentElement) {
      const found = parse(getComputedStyle(e).backgroundColor);
      if (found[3] === 1) return found.slice(0, 3);
      if (found[3] !== 0) problems.push(`${name(e)} has a background that one can see through`);
    }
    return [255, 255, 255];
  };
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  let looked = 0;
  while (walker.nextNode()) {
    const e = walker.currentNode.parentElement;
    if (!walker.currentNode.data.trim() || isUnseen(e) || e.closest("title") || !e.checkVisibility()) continue;
    looked += 1;
    const style = getComputedStyle(e);
    const isDrawn = e.tagName === "text";
    const below = isDrawn ? parse(getComputedStyle(e.parentElement.querySelector("rect")).fill) : background(e);
    let alpha = 1;
    for (let up = e; up; up = up.parentElement) alpha *= Number(getComputedStyle(up).opacity);
    const ink = over(parse(isDrawn ? style.fill : style.color), alpha, below);
    const [a, b] = [light(ink), light(below.slice(0, 3))].sort((x, y) => y - x);
    const size = parseFloat(style.fontSize);
    const least = size >= 24 || (size >= 18.66 && Number(style.fontWeight) >= 700) ? 3 : 4.5;
    if ((a + 0.05) / (b + 0.05) < least)
      problems.push(`${name(e)}: contrast ${((a + 0.05) / (b + 0.05)).toFixed(2)}: ${e.textContent.slice(0, 30)}`);
    if (size < 11 && window.matchMedia("screen").matches) problems.push(`${name(e)}: ${size} pixels`);
  }
  if (looked < 10) problems.push(`only ${looked} texts`);

  // What a screen reader needs.
  const levels = [...document.querySelectorAll("h1, h2, h3")].map((e) => Number(e.tagName[1]));
  if (levels.filter((one) => one === 1).length !== 1) problems.push("not one h1");
  levels.forEach((one, i) => i && one > levels[i - 1] + 1 && problems.push(`h${one} after h${levels[i - 1]}`));
  for (const e of document.querySelectorAll("table")) {
    if (!e.caption?.textContent) problems.push("a table without a caption");
    if (!e.tHead || [...e.tHead.querySelectorAll("th")].some((one) => one.scope !== "col")) problems.push("heads");
    const ids = new Set([...e.rows].map((row) => [...row.cells].reduce((sum, one) => sum + one.colSpan, 0)));
    if (ids.size > 1) problems.push(`rows of ${[...ids]} cells`);
  }
  for (const e of document.querySelectorAll("svg:not(svg svg)"))
    if (!(e.getAttribute("role") === "img" && e.getAttribute("aria-label")) && e.getAttribute("aria-hidden") !== "true")
      problems.push(`${name(e)} says nothing`);
  if (!document.documentElement.lang || !document.title) problems.push("no language or title");
  const seen = [...document.querySelectorAll("[id]")].map((e) => e.id);
  if (new Set(seen).size !== seen.length) problems.push("an id twice");
  return problems.slice(0, 20);
})();
