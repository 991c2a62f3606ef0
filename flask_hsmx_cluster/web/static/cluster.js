// Makes the cluster pages livelier: renews the status, opens dialogs, fetches the other gateway's addresses.
// Everything works without it, by links, forms and reload.
"use strict";

(() => {
  const root = document.querySelector("[data-hsmx]");
  if (!root) return;

  const PERIOD_MS = 1000;
  const banner = root.querySelector("[data-banner]");
  const shown = new Map();
  // A form that is shown again holds what was typed before.
  let typed = Boolean(root.querySelector("form [data-focus]"));
  let role = null;

  root.addEventListener("input", () => { typed = true; });

  // ---- status ----

  function say(text) {
    banner.textContent = text;
    banner.hidden = !text;
  }

  function replaceParts(parts) {
    for (const [name, html] of Object.entries(parts || {})) {
      if (shown.get(name) === html) continue;
      shown.set(name, html);
      root.querySelectorAll(`[data-part="${name}"]`).forEach((element) => {
        const focused = element.contains(document.activeElement) && document.activeElement.getAttribute("href");
        element.innerHTML = html;
        if (focused) element.querySelector(`[href="${CSS.escape(focused)}"]`)?.focus();
      });
    }
  }

  function follow(page, status) {
    const here = root.dataset.page;
    if (here === "pairing") {
      if (status.peer) location.assign(root.dataset.indexUrl);
    } else if (page !== here && (here === "absent" || page !== "absent") && !typed) {
      location.reload();
    }
  }

  async function renew() {
    let response;
    try {
      response = await fetch(root.dataset.statusUrl, {
        headers: {Accept: "application/json"}, cache: "no-store", signal: AbortSignal.timeout(5000),
      });
    } catch {
      say(root.dataset.lost);
      return;
    }
    let status;
    try {
      status = await response.json();
    } catch {
      say(response.status >= 500 ? root.dataset.lost : root.dataset.signedOut);
      return;
    }
    if (root.dataset.node && status.node && status.node.id !== root.dataset.node) {
      // The virtual IP has moved: this page was made by the other gateway.
      if (typed) say(root.dataset.moved);
      else location.assign(root.dataset.indexUrl);
      return;
    }
    say("");
    if (!status.page) return;
    if (role && status.node && status.node.role !== role) {
      root.querySelectorAll("[data-flash]").forEach((element) => element.remove());  // no longer true
    }
    role = status.node ? status.node.role : role;
    if (status.page !== "absent" || root.dataset.page === "formed") replaceParts(status.parts);
    follow(status.page, status);
  }

  async function keepRenewing() {
    const started = performance.now();
    if (!document.hidden) await renew();
    setTimeout(keepRenewing, Math.max(200, PERIOD_MS - (performance.now() - started)));
  }

  if (["formed", "unformed", "absent", "pairing"].includes(root.dataset.page)) setTimeout(keepRenewing, PERIOD_MS);

  // ---- what is under way ----

  async function live(place) {
    let was = "";
    while (place.querySelector("[data-running]")) {
      await new Promise((done) => setTimeout(done, PERIOD_MS));
      if (document.hidden) continue;
      try {
        const response = await fetch(place.dataset.live, {cache: "no-store", signal: AbortSignal.timeout(10000)});
        if (!response.ok) throw new Error(response.status);
        const html = await response.text();
        if (html !== was) {
          const focused = place.contains(document.activeElement) && document.activeElement.getAttribute("href");
          place.innerHTML = was = html;
          if (focused) place.querySelector(`[href="${CSS.escape(focused)}"]`)?.focus();
        }
        say("");
      } catch {
        say(root.dataset.lost);
      }
    }
  }

  root.querySelectorAll("[data-live]").forEach(live);

  // ---- dialogs ----

  root.addEventListener("click", (event) => {
    const opener = event.target.closest("[data-dialog]");
    const dialog = opener && document.getElementById(opener.dataset.dialog);
    if (dialog && dialog.showModal && !event.ctrlKey && !event.metaKey) {
      event.preventDefault();
      dialog.showModal();
      return;
    }
    const closer = event.target.closest("[data-close]");
    if (closer && closer.closest("dialog")) {
      event.preventDefault();
      closer.closest("dialog").close();
    }
  });

  // ---- addresses ----

  const form = root.querySelector("form[data-ports]");
  const own = new Map(form ? JSON.parse(form.dataset.ports).map((port) => [port.name, port.addresses]) : []);

  // A port with one address leaves no question which one is meant; beside it, one of the other family may stand.
  const only = (addresses) => {
    const one = addresses.length === 1 ? addresses : addresses.filter((address) => !address.includes(":"));
    return one.length === 1 ? one[0] : "";
  };

  root.addEventListener("change", (event) => {
    if (!event.target.matches("[data-end-port]")) return;
    const address = event.target.closest(".hsmx-end").querySelector("input");
    const addresses = own.get(event.target.value) || [];
    const ours = [...own.values()].flat();
    if (only(addresses) && (!address.value || ours.includes(address.value))) address.value = only(addresses);
  });

  function note(text, kind = "warn", symbol = "!") {
    const line = document.createElement("p");
    line.className = `hsmx-note hsmx-${kind}`;
    const sign = document.createElement("span");
    sign.className = "hsmx-sign";
    sign.textContent = symbol;
    sign.setAttribute("aria-hidden", "true");
    const words = document.createElement("span");
    words.textContent = text;
    line.append(sign, words);
    return line;
  }

  function choose(select, name) {
    if (![...select.options].some((option) => option.value === name)) select.add(new Option(name, name));
    select.value = name;
  }

  // The address of this column, by port: the other gateway's is to be in its subnet.
  function beside() {
    const ends = [...root.querySelectorAll("[data-link] .hsmx-end:first-child")];
    return new URLSearchParams(ends.map((end) => [end.querySelector("select").value, end.querySelector("input").value]));
  }

  function fill(answer) {
    const notes = [];
    for (const link of root.querySelectorAll("[data-link]")) {
      const [mine, other] = link.querySelectorAll(".hsmx-end");
      const name = mine.querySelector("select").value;
      if (!name || !other) continue;
      if (answer.matched[name]) {
        choose(other.querySelector("select"), name);
        const address = other.querySelector("input");
        address.value = answer.matched[name];
        address.classList.add("hsmx-fetched");
        typed = true;
      } else {
        notes.push(note(answer.unmatched[name] || name));
      }
    }
    if (root.querySelector(".hsmx-fetched")) notes.unshift(note(root.dataset.filled, "ok", "✓"));
    return notes;
  }

  const fetchButton = root.querySelector("[data-fetch]");
  fetchButton?.addEventListener("click", async (event) => {
    event.preventDefault();
    const place = root.querySelector("[data-fetched]");
    fetchButton.setAttribute("aria-busy", "true");
    try {
      const response = await fetch(`${fetchButton.dataset.fetch}?${beside()}`, {headers: {Accept: "application/json"}});
      const answer = await response.json();
      const {message, remedy} = answer.error || {};
      place.replaceChildren(...(answer.error ? [note(`${message} ${remedy}`)] : fill(answer)));
    } catch {
      place.replaceChildren(note(root.dataset.lost));
    } finally {
      fetchButton.removeAttribute("aria-busy");
    }
  });

  // ---- small things ----

  // One tick for all rows of a list; without JavaScript each is ticked by itself.
  root.querySelectorAll("[data-tick-all]").forEach((line) => {
    const all = line.querySelector("input");
    const boxes = [...line.closest("form").querySelectorAll("input[name=id]")];
    line.hidden = !boxes.length;
    all.addEventListener("change", () => boxes.forEach((box) => { box.checked = all.checked; }));
    line.closest("form").addEventListener("change", () => { all.checked = boxes.every((box) => box.checked); });
  });

  const countdown = root.querySelector("[data-countdown]");
  if (countdown) {
    const end = performance.now() + 1000 * Number(countdown.dataset.countdown);
    const tick = () => {
      const left = Math.max(0, Math.round((end - performance.now()) / 1000));
      const time = `${Math.floor(left / 60)}:${String(left % 60).padStart(2, "0")}`;
      countdown.textContent = left ? countdown.dataset.text.replace("{time}", time) : countdown.dataset.over;
      if (left) setTimeout(tick, 1000);
    };
    tick();
  }

  root.querySelector("[data-focus]")?.focus();
})();
