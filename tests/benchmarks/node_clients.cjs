// The clients of Node.js, each in a process of its own: see workers.py. Orders and answers are lines of JSON.
// They read strings, as they do unless told otherwise.
"use strict";
const readline = require("node:readline");

const PIPELINE_LENGTH = 100; // these three as in workloads.py and drivers.py
const MIX = ["get", "get", "get", "set", "get", "get", "hgetall", "get", "set", "get"];
const CALLERS_TO_ONE_TIMED = 16;
const [name, url, smallKey, hash, ...hotKeys] = process.argv.slice(2);

async function connect() {
  if (name.startsWith("ioredis")) {
    const { Redis } = require("ioredis");
    const client = new Redis(url, { enableAutoPipelining: name !== "ioredis" });
    await client.ping();
    return { client, pipeline: () => client.pipeline(), send: (pipeline) => pipeline.exec(), end: () => client.disconnect() };
  }
  const { createClient } = require("redis");
  const caching = name === "node-redis" ? {} : { clientSideCache: { ttl: 0, maxEntries: 0 } };
  const client = createClient({ url, RESP: 3, ...caching });
  client.on("error", (error) => { throw error; });
  await client.connect();
  for (const key of hotKeys) await client.get(key);
  return {
    client,
    pipeline: () => client.multi(),
    send: (pipeline) => pipeline.execAsPipeline(),
    end: () => client.destroy(),
  };
}

async function verify(client) {
  const value = "x".repeat(64);
  await client.set(smallKey, value);
  const fields = Object.entries(await client.hgetall?.(hash) ?? await client.hGetAll(hash));
  if (await client.get(smallKey) !== value || fields.length !== 10) throw new Error(`${name} got wrong replies`);
}

function workload({ client, pipeline, send }, order) {
  const key = `benchmark:${order.size}`;
  const value = "x".repeat(order.size);
  const hgetall = () => client.hgetall ? client.hgetall(hash) : client.hGetAll(hash);
  const commands = { get: () => client.get(key), set: () => client.set(key, value), hgetall };
  let turn = 0;
  switch (order.workload) {
    case "mixed":
      return () => commands[MIX[turn++ % MIX.length]]();
    case "pipeline":
      return () => {
        const pipe = pipeline();
        for (let index = 0; index < PIPELINE_LENGTH; index++) pipe.get(key);
        return send(pipe);
      };
    case "hits":
      return () => client.get(hotKeys[turn++ % hotKeys.length]);
    default:
      return commands[order.workload];
  }
}

async function run(opened, callers, order) {
  const issue = workload(opened, order);
  const latencies = [];
  let commands = 0;
  const cpuBegan = process.cpuUsage();
  const began = performance.now();
  const ends = began + order.seconds * 1000;
  async function call(number) {
    const isTimed = number % CALLERS_TO_ONE_TIMED === 0 && order.workload !== "hits";
    // A hit lets no timer go off, so that the clock is looked at. Now and then: it costs as much as a hit.
    for (let own = 1; ; own++) {
      const issued = isTimed ? performance.now() : 0;
      await issue();
      commands++;
      if (isTimed) latencies.push((performance.now() - issued) / 1000);
      if ((order.workload !== "hits" || own % 100 === 0) && performance.now() >= ends) return;
    }
  }
  await Promise.all(Array.from({ length: callers }, (_, number) => call(number)));
  const cpu = process.cpuUsage(cpuBegan);
  const seconds = (performance.now() - began) / 1000;
  return { commands, seconds, cpu_seconds: (cpu.user + cpu.system) / 1e6, latencies };
}

async function main() {
  let opened = null;
  let callers = 0;
  for await (const line of readline.createInterface({ input: process.stdin })) {
    const order = JSON.parse(line);
    let answer = {};
    if ("callers" in order) {
      callers = order.callers;
      opened = await connect();
      await verify(opened.client);
    } else if ("workload" in order) {
      answer = await run(opened, callers, order);
    } else {
      opened.end();
    }
    console.log(JSON.stringify(answer));
  }
}

main().catch((error) => { console.error(error); process.exit(1); });
