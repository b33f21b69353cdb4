// A TUF client by tuf-js: node client.cjs URL STATE [NAME FILE]
//
// STATE holds root.json, the root to trust, and what the client keeps. It refreshes, prints the versions
// that it trusts, and with NAME downloads that target to FILE.
'use strict';
const { Updater } = require('tuf-js');

async function main([url, state, name, file]) {
  const updater = new Updater({
    metadataDir: state,
    metadataBaseUrl: url + '/metadata',
    targetDir: state,
    targetBaseUrl: url + '/targets',
    config: { fetchRetries: 0 },
  });
  await updater.refresh();
  const { root, timestamp, snapshot, targets } = updater.trustedSet;
  for (const [role, metadata] of Object.entries({ root, timestamp, snapshot, targets })) {
    console.log(`${role}: ${metadata.signed.version}`);
  }
  console.log(`updates: ${Object.keys(targets.signed.targets).length}`);
  if (name) {
    const target = await updater.getTargetInfo(name);
    if (!target) {
      throw new Error(`${name}: not listed`);
    }
    await updater.downloadTarget(target, file);
    console.log(`downloaded: ${name} ${target.length}`);
  }
}

main(process.argv.slice(2)).catch((err) => {
  console.error(`${err.name}: ${err.constructor.name}: ${err.message}`);
  process.exit(1);
});
