// A signal as curves over time, by uPlot, in the colours of the page. The server has thinned it without losing a peak.

const COLOURS = ["#0b8f7a", "#d1660a", "#3f6fd1", "#b03a8c", "#7a8b00", "#8a5a2b", "#007fa3", "#c4473a", "#5b5bd6", "#4d7f3a",
  "#a8730a", "#777777"];
const dark = window.matchMedia("(prefers-color-scheme: dark)");

/** Draws into `place` and keeps the width of it; gives a function that ends that. */
export function plotSignal(place, signal) {
  let plot = null;
  const draw = () => {
    plot?.destroy();
    plot = place.clientWidth ? new window.uPlot(options(place.clientWidth, signal), data(signal), place) : null;
  };
  const widths = new ResizeObserver(() => {
    if (plot && plot.width === place.clientWidth) return;
    if (plot && place.clientWidth) plot.setSize({ width: place.clientWidth, height: plot.height });
    else draw();
  });
  widths.observe(place);
  dark.addEventListener("change", draw);
  return () => {
    widths.disconnect();
    dark.removeEventListener("change", draw);
    plot?.destroy();
  };
}

function data(signal) {
  const rate = signal.sampling_rate || 1;
  return [signal.plot.x.map((place) => place / rate), ...signal.plot.y];
}

function options(width, signal) {
  const style = getComputedStyle(document.documentElement);
  const ink = style.getPropertyValue("--soft").trim();
  const line = { stroke: style.getPropertyValue("--line").trim(), width: 1 };
  const axis = { stroke: ink, grid: line, ticks: line, font: "12px system-ui", labelFont: "12px system-ui", labelSize: 16 };
  const channels = signal.plot.y.map((_, i) => ({
    label: signal.channels[i] || (signal.plot.y.length > 1 ? `channel ${i + 1}` : "value"),
    stroke: COLOURS[i % COLOURS.length], width: 1.2, spanGaps: false, points: { show: signal.plot.x.length < 60 },
  }));
  const time = signal.sampling_rate ? "time / s" : "sample";
  return {
    width, height: 150, scales: { x: { time: false } }, legend: { show: channels.length > 1 },
    series: [{ label: time }, ...channels],
    axes: [{ ...axis, size: 28, label: time }, { ...axis, size: 62, label: signal.unit || undefined }],
  };
}

/** "1,200 samples, 2 channels, 100 Hz, mV" */
export function described(signal) {
  const facts = [`${signal.length.toLocaleString("en")} samples`];
  if (signal.num_channels > 1) facts.push(`${signal.num_channels} channels`);
  facts.push(signal.sampling_rate ? `${Number(signal.sampling_rate.toPrecision(6))} Hz` : "no sampling rate");
  if (signal.unit) facts.push(signal.unit);
  return facts.join(", ");
}
