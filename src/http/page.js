"use strict";
// The page as it was sent is whole; this only fetches it again and puts the new one in its place.
const live = document.getElementById("live");
live.textContent = "Live.";
async function refresh() {
  if (document.hidden) return;
  try {
    const answer = await fetch(location.pathname + location.search, { cache: "no-store", signal: AbortSignal.timeout(8000) });
    const page = new DOMParser().parseFromString(await answer.text(), "text/html");
    document.querySelector("main").replaceWith(page.querySelector("main"));
    document.title = page.title;
    live.textContent = "Live.";
    live.className = "";
  } catch {
    live.textContent = "No answer from this replica; what stands here is old.";
    live.className = "lost";
  }
}
setInterval(refresh, 2000);
document.addEventListener("visibilitychange", refresh);
