// node-redis reading from its client-side cache: see cache.py. Orders and answers are lines of JSON.
"use strict";
const { createClient } = require("redis");
const readline = require("node:readline");

const BURST = 100; // as in cached_reads.py

async function main(url, keys) {
  const client = createClient({ url, RESP: 3, clientSideCache: { ttl: 0, maxEntries: 0 } });
  client.on("error", (error) => { throw error; });
  await client.connect();
  for (const key of keys) await client.get(key);
  console.log(JSON.stringify({}));
  for await (const line of readline.createInterface({ input: process.stdin })) {
    const seconds = JSON.parse(line);
    if (seconds === null) break;
    let commands = 0;
    const cpuBegan = process.cpuUsage();
    const began = process.hrtime.bigint();
    const ends = began + BigInt(Math.round(seconds * 1e9));
    while (process.hrtime.bigint() < ends) {
      for (let index = 0; index < BURST; index++) await client.get(keys[index % keys.length]);
      commands += BURST;
    }
    const elapsed = Number(process.hrtime.bigint() - began) / 1e9;
    const cpu = process.cpuUsage(cpuBegan);
    console.log(JSON.stringify({ commands, seconds: elapsed, cpu_seconds: (cpu.user + cpu.system) / 1e6 }));
  }
  client.destroy();
}

main(process.argv[2], process.argv.slice(3));
