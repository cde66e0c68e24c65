// One pixel along a reverse trajectory: the true states, DDIM's, and the compensated ones (how-it-works.md).
(() => {
  const T = 100, X0 = -0.3, EPS = 1.2, H = 260, PAD = 34, RANGE = 1.6;
  const f = (u) => Math.cos(((u + 0.008) / 1.008) * Math.PI / 2) ** 2;
  const ab = [1];
  for (let i = 0; i < T; i++) ab.push(ab[i] * (1 - Math.min(1 - f((i + 1) / T) / f(i / T), 0.999)));
  const signal = ab.map(Math.sqrt), noise = ab.map((a) => Math.sqrt(1 - a));
  const truth = (t) => signal[t] * X0 + noise[t] * EPS;
  const root = document.getElementById("step");
  const W = Math.min(640, root.clientWidth || 640);  // letters keep their size on a phone
  const sliders = [
    ["steps", "steps", 2, 100, 1, 10],
    ["error", "error of the estimate", -1, 1, 0.05, 0.5],
    ["known", "part of it that C knows", 0, 1, 0.05, 0.8],
  ];
  root.innerHTML = sliders.map(([id, label, min, max, step, value]) =>
    `<label style="display:block">${label}: <output id="step-${id}-value"></output><br>` +
    `<input id="step-${id}" type="range" style="width:100%" min="${min}" max="${max}" step="${step}" value="${value}"></label>`
  ).join("") + `<svg viewBox="0 0 ${W} ${H}" role="img" aria-label="Paths of one pixel" style="width:100%"></svg><p></p>`;
  const value = (id) => Number(document.getElementById(`step-${id}`).value);
  const x = (t) => PAD + (W - 2 * PAD) * (1 - t / T), y = (v) => H / 2 - v * (H / 2 - 12) / RANGE;

  function path(times, error, part) {
    const states = [truth(T)];
    for (let i = 0; i + 1 < times.length; i++) {
      const [t, s, now] = [times[i], times[i + 1], states[i]];
      const hat = X0 + error, kappa = signal[s] - signal[t] * noise[s] / noise[t];
      const ddim = signal[s] * hat + noise[s] * (now - signal[t] * hat) / noise[t];
      states.push(ddim - kappa * part * error);
    }
    return states;
  }

  function draw() {
    const steps = value("steps"), error = value("error"), known = value("known");
    for (const [id] of sliders) document.getElementById(`step-${id}-value`).textContent = value(id);
    const times = Array.from({ length: steps + 1 }, (_, i) => Math.round(T * (steps - i) / steps));
    const lines = [["true", "gray", times.map(truth)], ["DDIM", "#c2571a", path(times, error, 0)],
      ["compensated", "#1f8f7f", path(times, error, known)]];
    root.querySelector("svg").innerHTML = lines.map(([name, colour, states], i) =>
      `<polyline fill="none" stroke="${colour}" stroke-width="2.5" points="${states.map((v, k) => `${x(times[k])},${y(v)}`).join(" ")}"/>` +
      `<text x="${W - 150}" y="${24 + 18 * i}" fill="${colour}" font-size="15">${name}</text>`).join("") +
      `<text x="${PAD}" y="${H - 6}" fill="gray" font-size="13">t = ${T}: noise</text>` +
      `<text x="${W - PAD}" y="${H - 6}" fill="gray" font-size="13" text-anchor="end">t = 0: the pixel</text>`;
    const miss = (states) => (states[steps] - X0).toFixed(2);
    root.querySelector("p").textContent = `At the end DDIM misses the pixel by ${miss(lines[1][2])}, compensated by ${miss(lines[2][2])}.`;
  }
  root.addEventListener("input", draw);
  draw();
})();
