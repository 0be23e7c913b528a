// Toasts: what matters now, for a moment.

import { $, make, icon, typeIcon, typeLabel } from "./view.js";

const most = 3; // toasts at a time; more are only counted

// stay is how long a toast is shown, in milliseconds, by priority. A priority
// without one makes no toast.
const stay = { high: 7_000, urgent: 20_000 };

const leaving = 200; // the length of the animation in demo.css, in milliseconds

let hidden = 0; // how many came while the stack was full
const more = make("p", { className: "toast-more", role: "status" });

// toast shows a notification, if its priority is one to be shown. An urgent one
// takes the place of another if the stack is full.
export function toast(n) {
  if (n.silent || !Object.hasOwn(stay, n.priority)) return;
  const shown = [...$("toasts").querySelectorAll(".toast:not(.leaving)")];
  if (shown.length >= most) {
    const weaker = n.priority === "urgent" && shown.find((node) => node.dataset.priority !== "urgent");
    count(hidden + 1);
    if (!weaker) return;
    weaker.remove();
  }
  const close = make("button", { type: "button", className: "close", "aria-label": `Dismiss ${n.ticketNumber}` }, icon("close"));
  const node = make(
    "div", { className: "toast", role: n.priority === "urgent" ? "alert" : "status", data: { priority: n.priority } },
    typeIcon(n.type, n.priority),
    make(
      "div", { className: "toast-body" },
      make("p", { className: "toast-meta" }, `${typeLabel(n.type)} · ${n.ticketNumber}`),
      make("p", { className: "toast-title" }, n.title),
      make("p", { className: "toast-message" }, n.message),
    ),
    close,
  );
  close.addEventListener("click", () => dismiss(node));
  dismissAfter(node, stay[n.priority]);
  $("toasts").prepend(node);
}

// dismissAfter starts the time of a toast. It stands still while the toast is
// pointed at or has the focus.
function dismissAfter(node, ms) {
  let timer = setTimeout(dismiss, ms, node);
  const hold = () => clearTimeout(timer);
  const release = () => {
    clearTimeout(timer);
    if (!node.matches(":hover, :focus-within")) timer = setTimeout(dismiss, ms, node);
  };
  node.addEventListener("pointerenter", hold);
  node.addEventListener("pointerleave", release);
  node.addEventListener("focusin", hold);
  node.addEventListener("focusout", () => setTimeout(release));
}

function dismiss(node) {
  if (node.classList.contains("leaving")) return;
  node.classList.add("leaving");
  setTimeout(() => {
    node.remove();
    if (!$("toasts").querySelector(".toast")) count(0);
  }, leaving);
}

function count(n) {
  hidden = n;
  more.textContent = `${n} more in the list`;
  if (n > 0) $("toasts").append(more);
  else more.remove();
}
