// Keeps a page up to date and shows its times in the reader's zone. Everything is there without it.
'use strict';
(() => {
  const zone = Intl.DateTimeFormat().resolvedOptions().timeZone;
  const shown = new Intl.DateTimeFormat(undefined, { dateStyle: 'medium', timeStyle: 'medium' });
  const local = root => root.querySelectorAll('time[datetime]').forEach(time => {
    const at = new Date(time.dateTime);
    if (isNaN(at) || time.title) return;
    time.title = time.textContent;
    time.textContent = shown.format(at);
  });
  const copies = root => navigator.clipboard && root.querySelectorAll('button.copy').forEach(button => {
    button.hidden = false;
    button.onclick = async () => {
      await navigator.clipboard.writeText(button.previousElementSibling.textContent);
      button.textContent = 'Copied';
      setTimeout(() => { button.textContent = 'Copy'; }, 1500);
    };
  });
  const settle = root => { local(root); copies(root); };
  settle(document);
  if (zone !== 'UTC') document.getElementById('zone').textContent = `Times are ${zone}; point at one for UTC.`;

  const every = Number(document.body.dataset.every) * 1000;
  if (!every) return;
  const live = document.getElementById('live');
  let failures = 0;
  // What somebody is using is left as it is: a part with the focus, with selected text, or with something opened.
  const used = part => part.contains(document.activeElement) || part.querySelector('details[open]')
    || (String(getSelection()) && getSelection().containsNode(part, true));
  const look = async () => {
    if (document.hidden) return;
    try {
      const answer = await fetch(location.href, { headers: { Accept: 'text/html' }, credentials: 'same-origin' });
      if (answer.status === 401) return location.reload();
      if (!answer.ok) throw new Error(String(answer.status));
      const next = new DOMParser().parseFromString(await answer.text(), 'text/html');
      settle(next);
      document.querySelectorAll('[data-live]').forEach(part => {
        const other = next.getElementById(part.id);
        if (other && other.innerHTML !== part.innerHTML && !used(part)) {
          part.replaceChildren(...other.childNodes);
          copies(part);
        }
      });
      failures = 0;
      live.textContent = '';
    } catch {
      failures += 1;
      if (failures === 2) live.textContent = 'The engine does not answer; what is shown may be old.';
    }
  };
  setInterval(look, every);
  document.addEventListener('visibilitychange', look);
})();
