// Boxes with tuf-js: node refresh.cjs
//
// Each line of input is JSON, {"url": …, "state": …, "now": …}: the box whose directory is state refreshes from the server
// at url, by a clock that says now, and prints one line of JSON: "" or why it refused.
'use strict';
const readline = require('readline');

const RealDate = Date;
let now;
globalThis.Date = class extends RealDate {
  constructor(...args) {
    super(...(args.length > 0 ? args : [now]));
  }
};
const { Updater } = require('tuf-js');

async function refresh(url, state) {
  const updater = new Updater({
    metadataDir: state,
    metadataBaseUrl: url,
    targetDir: state,
    targetBaseUrl: url,
    config: { fetchRetries: 0 },
  });
  await updater.refresh();
}

async function main() {
  for await (const line of readline.createInterface({ input: process.stdin })) {
    const box = JSON.parse(line);
    now = RealDate.parse(box.now);
    let answer = '';
    try {
      await refresh(box.url, box.state);
    } catch (err) {
      answer = `${err.constructor.name}: ${err.message}`;
    }
    console.log(JSON.stringify(answer));
  }
}

main();
