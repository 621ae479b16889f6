"""The looks of a report: one style sheet for wide and narrow screens, in light and dark colours."""

from __future__ import annotations

STYLE = """
:root { color-scheme: light dark;
  --paper: #fcfcfa; --card: #ffffff; --ink: #1d2530; --soft: #5b6675; --line: #dfe3e8;
  --first: #2f6fb3; --second: #c2571a; --good: #1f7a45; --bad: #b3261e; --doubt: #8a5a00;
  --tint: #eef3f9; }
@media (prefers-color-scheme: dark) { :root {
  --paper: #14181d; --card: #1c2229; --ink: #e6eaf0; --soft: #9ba7b4; --line: #333c47;
  --first: #6fa8e6; --second: #f0935a; --good: #62c98d; --bad: #ff8a80; --doubt: #e8b65a;
  --tint: #222c38; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--paper); color: var(--ink);
  font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto,
  "Helvetica Neue", Arial, sans-serif; }
main { max-width: 72rem; margin: 0 auto; padding: 2.5rem 1.25rem 4rem; }
h1 { font-size: 1.9rem; line-height: 1.2; margin: 0 0 .35rem; overflow-wrap: anywhere; }
h2 { font-size: 1.3rem; margin: 2.6rem 0 .8rem; overflow-wrap: anywhere; }
h3 { font-size: 1rem; margin: 0 0 .6rem; }
p { margin: .3rem 0; }
.lead, figcaption, .note { color: var(--soft); }
.note, figcaption { font-size: .9rem; }
code { font: .85em/1.5 ui-monospace, SFMono-Regular, Menlo, Consolas, "DejaVu Sans Mono", monospace;
  overflow-wrap: anywhere; }
.cards { display: grid; gap: 1rem; grid-template-columns: repeat(auto-fit, minmax(25rem, 1fr)); }
.card { background: var(--card); border: 1px solid var(--line); border-radius: .6rem;
  padding: 1.1rem 1.2rem; margin: 0; min-width: 0; }
.facts { display: grid; grid-template-columns: max-content 1fr; gap: .3rem 1rem;
  margin: .8rem 0 0; }
.facts dt { color: var(--soft); } .facts dd { margin: 0; min-width: 0; overflow-wrap: anywhere; }
.badge { display: inline-block; font-weight: 600; border-radius: 1rem; padding: .05rem .7rem;
  border: 1px solid currentColor; }
.ok { color: var(--good); } .failed { color: var(--bad); } .unproven { color: var(--doubt); }
.wide { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th, td { text-align: right; padding: .45rem .6rem; border-bottom: 1px solid var(--line); }
th { color: var(--soft); font-weight: 500; font-size: .9rem; vertical-align: bottom; }
th:first-child, td:first-child { text-align: left; padding-left: 0; overflow-wrap: anywhere;
  min-width: 9rem; }
tr:last-child td { border-bottom: 0; }
td small { display: block; color: var(--soft); }
figure { margin: 0; } figure svg { display: block; width: 100%; max-width: 34rem; height: auto; }
svg text { font-family: inherit; }
.below { margin-top: 1.2rem; }
.samples img { display: block; max-width: 100%; height: auto; border-radius: .4rem; }
.tree, .tree ul { list-style: none; margin: 0; padding: 0; }
.tree ul { margin-left: .5rem; padding-left: 1.1rem; border-left: 2px solid var(--line); }
.tree li { padding: .2rem 0; overflow-wrap: anywhere; }
.share { display: inline-block; min-width: 4.6rem; font-variant-numeric: tabular-nums; }
.steps { margin: 0; padding-left: 1.4rem; }
@media (max-width: 40rem) {
  main { padding: 1.5rem .9rem 3rem; } h1 { font-size: 1.5rem; }
  .cards { grid-template-columns: minmax(0, 1fr); }
  .facts { grid-template-columns: minmax(0, 1fr); gap: 0; } .facts dd { margin-bottom: .5rem; }
  table.stacked thead { display: none; } table.stacked, .stacked tbody { display: block; }
  .stacked tr { display: block; padding: .6rem 0; border-bottom: 1px solid var(--line); }
  .stacked tr:last-child { border-bottom: 0; }
  .stacked td { display: flex; justify-content: space-between; gap: 1rem; border: 0;
    padding: .1rem 0; text-align: right; }
  .stacked td::before { content: attr(data-label); color: var(--soft); text-align: left; }
  .stacked td:first-child { display: block; padding-bottom: .3rem; text-align: left; }
  .stacked td:first-child::before { content: none; } }
@media print { body { background: #fff; } .card { break-inside: avoid; } }
"""
