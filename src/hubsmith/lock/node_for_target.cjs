// Loaded into npm before it starts: npm prefers versions of packages whose "engines" fit the Node.js that it runs on.
// That must be the image's Node.js, not this machine's.
const version = process.env.HUBSMITH_NODE_VERSION;
Object.defineProperty(process, "version", { value: `v${version}` });
Object.defineProperty(process, "versions", { value: Object.freeze({ ...process.versions, node: version }) });
