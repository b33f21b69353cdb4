// A box with tuf-js that is always on: node follow.cjs STATE
//
// STATE holds root.json, the root to trust, and what the box keeps. Each line of input is the URL of a
// server: the box refreshes from there, downloads what is listed and not there yet, and prints one line of
// JSON, the versions that it trusts and the names that it has, or {"error": "why not"}.
'use strict';
const path = require('path');
const readline = require('readline');
const { Updater } = require('tuf-js');

async function refresh(url, state) {
  const updater = new Updater({
    metadataDir: state,
    metadataBaseUrl: url + '/metadata',
    targetDir: state,
    targetBaseUrl: url + '/targets',
    config: { fetchRetries: 0 },
  });
  await updater.refresh();
  const { root, timestamp, snapshot, targets } = updater.trustedSet;
  const updates = Object.keys(targets.signed.targets).sort();
  for (const name of updates) {
    const target = await updater.getTargetInfo(name);
    const file = path.join(state, name);
    if (!(await updater.findCachedTarget(target, file))) {
      await updater.downloadTarget(target, file);
    }
  }
  return {
    root: root.signed.version,
    timestamp: timestamp.signed.version,
    snapshot: snapshot.signed.version,
    targets: targets.signed.version,
    updates,
  };
}

async function main([state]) {
  for await (const url of readline.createInterface({ input: process.stdin })) {
    let answer;
    try {
      answer = await refresh(url, state);
    } catch (err) {
      answer = { error: `${err.constructor.name}: ${err.message}` };
    }
    console.log(JSON.stringify(answer));
  }
}

main(process.argv.slice(2));
