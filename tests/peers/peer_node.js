#!/usr/bin/env node
// SPDX-License-Identifier: MIT
// Node's tls module as an end of pump.c's streams: the same flags, the same
// bytes (examples/content.c), the same order of things.
'use strict';
const fs = require('fs');
const tls = require('tls');
const { parseArgs } = require('util');

const { values: flag, positionals: [role] } = parseArgs({
	allowPositionals: true,
	options: Object.fromEntries(['cert', 'key', 'port', 'version', 'cipher',
		'bytes', 'seed'].map((name) => [name, { type: 'string' }])),
});
const server = role === 'server';
const part = parseInt(flag.bytes ?? '8388608', 10);
const suites = { // with OpenSSL's names
	'AES-128-GCM': ['TLS_AES_128_GCM_SHA256',
		'ECDHE-ECDSA-AES128-GCM-SHA256'],
	'AES-256-GCM': ['TLS_AES_256_GCM_SHA384',
		'ECDHE-ECDSA-AES256-GCM-SHA384'],
	'CHACHA20-POLY1305': ['TLS_CHACHA20_POLY1305_SHA256',
		'ECDHE-ECDSA-CHACHA20-POLY1305'],
	'AES-128-CCM': ['TLS_AES_128_CCM_SHA256', 'ECDHE-ECDSA-AES128-CCM'],
	'AES-256-CCM': ['', 'ECDHE-ECDSA-AES256-CCM'],
};

function fail(words) {
	console.error(`peer_node: ${words}`);
	process.exit(1);
}

// ---- Bytes: see examples/content.c ----

const CHUNK = 65536;
const mask = (1n << 64n) - 1n;

function mix(n) { // splitmix64
	n = (n + 0x9e3779b97f4a7c15n) & mask;
	n = ((n ^ (n >> 30n)) * 0xbf58476d1ce4e5b9n) & mask;
	n = ((n ^ (n >> 27n)) * 0x94d049bb133111ebn) & mask;
	return n ^ (n >> 31n);
}

const noise = new Uint32Array(CHUNK / 4);
for (let i = 0; i < CHUNK / 8; i++)
	new BigUint64Array(noise.buffer)[i] = mix(~BigInt(i) & mask);

// The chunk with this number, of the bytes that go to the client or the server.
function chunk(toClient, number) {
	const words = new Uint32Array(CHUNK / 4);
	const key = mix(BigInt(number) + (toClient ? 1n << 24n : 0n));
	const low = Number(key & 0xffffffffn), high = Number(key >> 32n);

	for (let i = 0; i < words.length; i += 2) {
		words[i] = noise[i] ^ low;
		words[i + 1] = noise[i + 1] ^ high;
	}
	return Buffer.from(words.buffer);
}

// ---- The stream: see pump.c ----

let seed = parseInt(flag.seed ?? '1', 10);

function random(below) {
	seed = (Math.imul(seed, 1103515245) + 12345) >>> 0;
	return (seed >>> 8) % below;
}

function randomLength() {
	switch (random(4)) {
	case 0: return 1 + random(100);
	case 1: return 16380 + random(10);
	case 2: return 1 + random(16384);
	default: return 1 + random(CHUNK);
	}
}

function run(socket) {
	let sent = 0, received = 0, full = false, shut = false, expected;
	const how = `${socket.getProtocol()} ${socket.getCipher().name}`;

	const maySend = () =>
		received >= (server ? 2 : 1) * part ? 2 * part : part;

	function send() {
		while (!full && sent < maySend()) {
			const at = sent % CHUNK;
			const n = Math.min(randomLength(), CHUNK - at,
				maySend() - sent);
			const data = chunk(server, Math.floor(sent / CHUNK));

			full = !socket.write(data.subarray(at, at + n));
			sent += n;
		}
		if (!server && !shut && sent === 2 * part &&
		    received === 2 * part) {
			shut = true;
			socket.end();
		}
	}

	function compare(data) {
		while (data.length) {
			const at = received % CHUNK;
			const n = Math.min(data.length, CHUNK - at);

			if (at === 0 || !expected)
				expected = chunk(!server,
					Math.floor(received / CHUNK));
			if (expected.compare(data, 0, n, at, at + n))
				fail(`what came differs after ${received}`);
			received += n;
			data = data.subarray(n);
		}
	}

	socket.on('data', (data) => {
		compare(data);
		if (received > 2 * part)
			fail('too much came');
		send();
	});
	socket.on('drain', () => {
		full = false;
		send();
	});
	socket.on('end', () => {
		if (received !== 2 * part || sent !== 2 * part)
			fail(`end after ${received} received, ${sent} sent`);
		socket.end();
	});
	socket.on('close', () => {
		if (received !== 2 * part)
			fail(`closed after ${received} of ${2 * part}`);
		console.log(`Node ${process.versions.node} (OpenSSL ` +
			`${process.versions.openssl}): ${how}, ${received} ` +
			'bytes each way identical');
		process.exit(0);
	});
	send();
}

const version = flag.version === '1.2' ? 'TLSv1.2' : 'TLSv1.3';
const options = {
	minVersion: version,
	maxVersion: version,
	ciphers: suites[flag.cipher ?? 'AES-128-GCM'][version === 'TLSv1.2' ? 1 : 0],
	allowHalfOpen: true,
};
const error = (e) => fail(e.message);

setTimeout(() => fail('no end after 60 s'), 60000).unref();
if (server) {
	const listener = tls.createServer({
		...options,
		cert: fs.readFileSync(flag.cert),
		key: fs.readFileSync(flag.key),
	}, (socket) => {
		listener.close();
		socket.on('error', error);
		run(socket);
	});
	listener.on('tlsClientError', error);
	listener.listen(parseInt(flag.port ?? '0', 10), '127.0.0.1', () =>
		console.log(`listening on 127.0.0.1:${listener.address().port}`));
} else {
	const socket = tls.connect({
		...options,
		host: '127.0.0.1',
		port: parseInt(flag.port, 10),
		rejectUnauthorized: false,
	}, () => run(socket));
	socket.on('error', error);
}
