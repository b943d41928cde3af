// A client in another language, from docs/protocol.md alone: Node.js with no package, not even ZeroMQ's. Prints JSON lines.
//
//     node independent.mjs CONTROL TOPIC N      join, print N messages of TOPIC, set a parameter, have a request refused
//
// Its parts, in the page's order: ZMTP ("Without a ZeroMQ library"), MessagePack, requests, joining.
import net from "node:net";

// -- ZMTP 3.0, mechanism NULL ---------------------------------------------------------------------------------------------------------

class Peer {
  constructor(endpoint, type, onMessage) {
    const [, scheme, rest] = /^(\w+):\/\/(.*)$/.exec(endpoint);
    const colon = rest.lastIndexOf(":");
    this.socket = scheme === "ipc" ? net.connect(rest) : net.connect(Number(rest.slice(colon + 1)), rest.slice(0, colon));
    this.socket.write(Buffer.concat([Buffer.from("ff00000000000000007f0300", "hex"), Buffer.from("NULL".padEnd(20, "\0")), Buffer.alloc(32)]));
    const size = Buffer.alloc(4);
    size.writeUInt32BE(type.length);
    this.ready = true; // for READY itself
    this.unsent = [];
    this.send([Buffer.concat([Buffer.from("\x05READY\x0bSocket-Type"), size, Buffer.from(type)])], 4);
    this.ready = false; // nothing else may leave before the other side's READY has come
    this.waiting = Buffer.alloc(0);
    this.greeted = false;
    this.frames = [];
    this.socket.on("data", (data) => {
      this.waiting = Buffer.concat([this.waiting, data]);
      this.read(onMessage);
    });
  }

  send(frames, command = 0) {
    if (!this.ready) return this.unsent.push(frames);
    frames.forEach((body, i) => {
      const head = Buffer.alloc(9);
      head[0] = command | 2 | (i < frames.length - 1 ? 1 : 0); // bit 0: more frames follow; bit 1: a long length; bit 2: a command
      head.writeBigUInt64BE(BigInt(body.length), 1);
      this.socket.write(Buffer.concat([head, body]));
    });
  }

  read(onMessage) {
    if (!this.greeted) {
      if (this.waiting.length < 64) return;
      this.waiting = this.waiting.subarray(64);
      this.greeted = true;
    }
    for (;;) {
      const long = this.waiting.length && this.waiting[0] & 2;
      const head = long ? 9 : 2;
      if (this.waiting.length < head) return;
      const size = long ? Number(this.waiting.readBigUInt64BE(1)) : this.waiting[1];
      if (this.waiting.length < head + size) return;
      const flags = this.waiting[0];
      const body = this.waiting.subarray(head, head + size);
      this.waiting = this.waiting.subarray(head + size);
      if (flags & 4) {
        if (body.subarray(0, 6).toString() === "\x05READY") {
          this.ready = true;
          for (const waiting of this.unsent.splice(0)) this.send(waiting);
        }
        if (body.subarray(0, 5).toString() === "\x04PING") this.send([Buffer.concat([Buffer.from("\x04PONG"), body.subarray(7)])], 4);
        continue;
      }
      this.frames.push(body);
      if (flags & 1) continue;
      onMessage(this.frames.splice(0));
    }
  }
}

// -- MessagePack, as much of it as the page uses --------------------------------------------------------------------------------------

function decode(bytes) {
  let at = 0;
  const take = (n) => bytes.subarray(at, (at += n));
  const uint = (n) => Number(n === 8 ? take(8).readBigUInt64BE() : take(n).readUIntBE(0, n));
  const int = (n) => Number(n === 8 ? take(8).readBigInt64BE() : take(n).readIntBE(0, n));
  const text = (n) => take(n).toString("utf8");
  const list = (n) => Array.from({ length: n }, value);
  const map = (n) => Object.fromEntries(Array.from({ length: n }, () => [value(), value()]));
  function value() {
    const b = take(1)[0];
    if (b < 0x80) return b;
    if (b < 0x90) return map(b & 15);
    if (b < 0xa0) return list(b & 15);
    if (b < 0xc0) return text(b & 31);
    if (b >= 0xe0) return b - 256;
    if (b === 0xc0) return null;
    if (b === 0xc2 || b === 0xc3) return b === 0xc3;
    if (b >= 0xc4 && b <= 0xc6) return take(uint(1 << (b - 0xc4)));
    if (b === 0xca) return take(4).readFloatBE();
    if (b === 0xcb) return take(8).readDoubleBE();
    if (b >= 0xcc && b <= 0xcf) return uint(1 << (b - 0xcc));
    if (b >= 0xd0 && b <= 0xd3) return int(1 << (b - 0xd0));
    if (b >= 0xd9 && b <= 0xdb) return text(uint(1 << (b - 0xd9)));
    if (b === 0xdc || b === 0xdd) return list(uint(b === 0xdc ? 2 : 4));
    if (b === 0xde || b === 0xdf) return map(uint(b === 0xde ? 2 : 4));
    throw new Error(`not MessagePack: ${b.toString(16)}`);
  }
  return value();
}

function encode(value) {
  if (value === null) return Buffer.from([0xc0]);
  if (typeof value === "boolean") return Buffer.from([value ? 0xc3 : 0xc2]);
  if (typeof value === "number" && Number.isInteger(value) && value >= 0 && value < 128) return Buffer.from([value]);
  if (typeof value === "number") {
    const out = Buffer.from([0xcb, 0, 0, 0, 0, 0, 0, 0, 0]);
    out.writeDoubleBE(value, 1);
    return out;
  }
  if (typeof value === "string") return Buffer.concat([Buffer.from([0xd9, Buffer.byteLength(value)]), Buffer.from(value)]);
  if (Array.isArray(value)) return Buffer.concat([Buffer.from([0x90 | value.length]), ...value.map(encode)]);
  return Buffer.concat([Buffer.from([0x80 | Object.keys(value).length]), ...Object.entries(value).flat().map(encode)]);
}

// -- requests and joining -------------------------------------------------------------------------------------------------------------

const [, , endpoint, wanted, count] = process.argv;
const print = (what, value) => console.log(JSON.stringify({ what, value }));
const asked = new Map();
const control = new Peer(endpoint, "DEALER", ([mark, body]) => {
  if (mark.toString() !== "RT1") throw new Error("another version");
  const reply = decode(body);
  asked.get(reply.id)(reply);
  asked.delete(reply.id);
});
let n = 0;
const ask = (op, fields = {}) =>
  new Promise((resolve) => {
    const id = `independent-${process.pid}-${(n += 1)}`;
    asked.set(id, resolve);
    control.send([Buffer.from("RT1"), encode({ id, op, ...fields })]);
  });

const hello = (await ask("hello", { versions: [1], client: "independent" })).result;
print("hello", hello.boot_id);
let stream = null; // boot id and epoch that the sequence numbers belong to
let seen = {};
let early = [];
let joining = false;
let printed = 0;

const apply = async (topic, header, payload) => {
  if (topic !== wanted || header[3] <= (seen[topic] ?? 0)) return; // the snapshot has it already
  if (header[3] > (seen[topic] ?? 0) + 1) print("lost", header[3] - (seen[topic] ?? 0) - 1);
  seen[topic] = header[3];
  print(topic, payload);
  printed += 1;
  if (printed !== Number(count)) return;
  print("set", (await ask("set", { name: "outputs.harmonic.gain_db", value: -6.5 })).result.value);
  print("refused", (await ask("set", { name: "outputs.harmonic.gain_bd", value: 0 })).error.code);
  process.exit(0);
};

const events = new Peer(hello.endpoints.events, "SUB", async (frames) => {
  const [topic, header, payload] = [frames[0].toString(), decode(frames[1]), decode(frames[2])];
  const key = `${header[1]} ${header[2]}`;
  if (key === stream) return apply(topic, header, payload);
  early.push([topic, header, payload]);
  if (topic !== "heartbeat" || joining) return; // a heartbeat proves that the subscriptions hold
  joining = true;
  const snapshot = (await ask("snapshot")).result;
  joining = false;
  if (key !== `${snapshot.boot_id} ${snapshot.epoch}`) return;
  [stream, seen] = [key, snapshot.sequences];
  print("snapshot", snapshot.parameters);
  for (const message of early.splice(0)) if (`${message[1][1]} ${message[1][2]}` === stream) await apply(...message);
});
for (const topic of [wanted, "heartbeat"]) events.send([Buffer.concat([Buffer.from([1]), Buffer.from(topic)])]);
