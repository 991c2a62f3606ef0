"""What is measured on a page as it is shown: overflow, contrast, names of controls, complaints of the browser."""

from __future__ import annotations

from typing import Any

VIEWS: dict[str, dict[str, Any]] = {
    "desktop, light": {"viewport": {"width": 1280, "height": 860}, "color_scheme": "light"},
    "desktop, dark": {"viewport": {"width": 1280, "height": 860}, "color_scheme": "dark"},
    "phone, light": {"viewport": {"width": 360, "height": 740}, "color_scheme": "light"},
    "phone, dark": {"viewport": {"width": 360, "height": 740}, "color_scheme": "dark"},
}

#: Texts whose contrast with the nearest background below them is less than WCAG AA asks for.
_FAINT = """() => {
  const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  const rgba = (color) => {
    canvas.clearRect(0, 0, 1, 1); canvas.fillStyle = color; canvas.fillRect(0, 0, 1, 1);
    return [...canvas.getImageData(0, 0, 1, 1).data];
  };
  const light = ([r, g, b]) => {
    const part = (v) => (v /= 255) <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4;
    return 0.2126 * part(r) + 0.7152 * part(g) + 0.0722 * part(b);
  };
  const ground = (node) => {
    for (; node; node = node.parentElement) {
      const color = rgba(getComputedStyle(node).backgroundColor);
      if (color[3] > 250) return color;
    }
    return rgba("Canvas");
  };
  const faint = [];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const node = walker.currentNode.parentElement;
    if (!walker.currentNode.data.trim() || node.closest("svg, script, option, :disabled, [hidden]")) continue;
    if (!node.checkVisibility({ checkOpacity: true, checkVisibilityCSS: true })) continue;
    const style = getComputedStyle(node);
    const [one, other] = [light(rgba(style.color)), light(ground(node))].sort((a, b) => b - a);
    const large = parseFloat(style.fontSize) >= 24 || (parseFloat(style.fontSize) >= 18.66 && style.fontWeight >= 700);
    const ratio = (one + 0.05) / (other + 0.05);
    if (ratio < (large ? 3 : 4.5)) faint.push(`${walker.currentNode.data.trim().slice(0, 40)}: ${ratio.toFixed(2)}`);
  }
  return faint;
}"""

#: Controls that a screen reader would announce without a name.
_NAMELESS = """() => [...document.querySelectorAll("a, button, input, select, textarea, [role=button]")]
  .filter((node) => node.type !== "hidden")
  .filter((node) => !(node.labels?.length || node.getAttribute("aria-label") || node.textContent.trim()))
  .map((node) => node.outerHTML.slice(0, 80))"""

_WIDE = "() => document.documentElement.scrollWidth - document.documentElement.clientWidth"

_TWICE = """() => { const ids = [...document.querySelectorAll("[id]:not([type=hidden])")].map((node) => node.id);
  return ids.filter((id, place) => ids.indexOf(id) !== place); }"""


def flaws(page: Any) -> dict[str, Any]:
    """Return what is wrong with the page as it is shown now; empty if nothing is."""
    found = {
        "faint text": page.evaluate(_FAINT),
        "controls without a name": page.evaluate(_NAMELESS),
        "wider than the window, pixels": page.evaluate(_WIDE),
        "ids used twice": page.evaluate(_TWICE),
    }
    return {what: value for what, value in found.items() if value}
