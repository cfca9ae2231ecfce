// SPDX-License-Identifier: MIT
// Java's TLS (JSSE) as an end of pump.c's streams: the same flags, the same
// bytes (examples/content.c), the same order of things. --limit N lowers
// jdk.tls.keyLimits to 2^N bytes: JSSE, once it has read so much under one key,
// asks for a KeyUpdate with every record until it gets one. It then sends and
// reads by turns, since a KeyUpdate that one thread writes while another reads
// one is too much for it (NoSuchElementException in HandshakeHash, OpenJDK 17).
import java.io.IOException;
import java.io.InputStream;
import java.net.InetAddress;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.file.Files;
import java.nio.file.Path;
import java.security.KeyFactory;
import java.security.KeyStore;
import java.security.Security;
import java.security.cert.Certificate;
import java.security.cert.CertificateFactory;
import java.security.cert.X509Certificate;
import java.security.spec.PKCS8EncodedKeySpec;
import java.util.Arrays;
import java.util.Base64;
import java.util.HashMap;
import java.util.Map;
import java.util.Random;
import javax.net.ssl.KeyManager;
import javax.net.ssl.KeyManagerFactory;
import javax.net.ssl.SSLContext;
import javax.net.ssl.SSLServerSocket;
import javax.net.ssl.SSLSocket;
import javax.net.ssl.TrustManager;
import javax.net.ssl.X509TrustManager;

class PeerJava {
	static final Map<String, String[]> SUITES = Map.of(
		"AES-128-GCM", new String[] { "TLS_AES_128_GCM_SHA256",
			"TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256" },
		"AES-256-GCM", new String[] { "TLS_AES_256_GCM_SHA384",
			"TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384" },
		"CHACHA20-POLY1305", new String[] {
			"TLS_CHACHA20_POLY1305_SHA256",
			"TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256" });

	static boolean server;
	static final Map<String, String> flags = new HashMap<>();
	static long part;

	static void fail(String words) {
		System.err.println("PeerJava: " + words);
		System.exit(1);
	}

	static String flag(String name, String otherwise) {
		return flags.getOrDefault(name, otherwise);
	}

	// ---- Bytes: see examples/content.c ----

	static final int CHUNK = 65536;
	static final long[] noise = new long[CHUNK / 8];

	static long mix(long n) { // splitmix64
		n += 0x9e3779b97f4a7c15L;
		n = (n ^ (n >>> 30)) * 0xbf58476d1ce4e5b9L;
		n = (n ^ (n >>> 27)) * 0x94d049bb133111ebL;
		return n ^ (n >>> 31);
	}

	// The chunk which holds this offset of what goes to client or server.
	static byte[] chunk(boolean toClient, long offset) {
		ByteBuffer bytes = ByteBuffer.allocate(CHUNK)
			.order(ByteOrder.LITTLE_ENDIAN);
		long key = mix(offset / CHUNK + (toClient ? 1L << 24 : 0));

		for (long word : noise)
			bytes.putLong(word ^ key);
		return bytes.array();
	}

	// ---- The stream: see pump.c; here a thread for each direction ----

	static SSLSocket socket;
	static long received; // guarded by the class, as is sent
	static long sent;

	static Random random;

	static int randomLength() {
		switch (random.nextInt(4)) {
		case 0: return 1 + random.nextInt(100);
		case 1: return 16380 + random.nextInt(10);
		case 2: return 1 + random.nextInt(16384);
		default: return 1 + random.nextInt(CHUNK);
		}
	}

	static synchronized long maySend() {
		return received >= (server ? 2 : 1) * part ? 2 * part : part;
	}

	static synchronized void awaitLeave() throws InterruptedException {
		while (sent == maySend() && sent < 2 * part)
			PeerJava.class.wait();
	}

	static synchronized void awaitAll() throws InterruptedException {
		while (received < 2 * part)
			PeerJava.class.wait();
	}

	static synchronized void count(int n) {
		received += n;
		PeerJava.class.notifyAll();
	}

	static byte[] outgoing;

	static void sendSome() throws IOException {
		int at = (int)(sent % CHUNK);
		int n = Math.min(randomLength(), CHUNK - at);

		n = (int)Math.min(n, maySend() - sent);
		if (at == 0)
			outgoing = chunk(server, sent);
		socket.getOutputStream().write(outgoing, at, n);
		synchronized (PeerJava.class) {
			sent += n;
		}
	}

	static void send() throws IOException, InterruptedException {
		while (sent < 2 * part) {
			awaitLeave();
			sendSome();
		}
		if (!server) {
			awaitAll();
			socket.shutdownOutput();
		}
	}

	static byte[] expected;

	static void compare(byte[] data, int n) {
		long offset = received;

		for (int done = 0, same; done < n; done += same) {
			int at = (int)((offset + done) % CHUNK);

			if (at == 0)
				expected = chunk(!server, offset + done);
			same = Math.min(n - done, CHUNK - at);
			if (!Arrays.equals(data, done, done + same, expected,
					   at, at + same))
				fail("what came differs after " + offset);
		}
	}

	static final byte[] incoming = new byte[CHUNK];

	// Whether there was anything, or the end.
	static boolean receiveSome() throws IOException {
		int n = socket.getInputStream().read(incoming);

		if (n < 0)
			return false;
		if (received + n > 2 * part)
			fail("too much came");
		compare(incoming, n);
		count(n);
		return true;
	}

	static void receive() throws IOException {
		while (receiveSome())
			;
	}

	static void takeTurns() throws IOException {
		while (sent < 2 * part || received < 2 * part) {
			while (sent < maySend())
				sendSome();
			if (received < 2 * part && !receiveSome())
				return;
		}
		if (!server)
			socket.shutdownOutput();
		receive();
	}

	static void sender() {
		try {
			send();
		} catch (IOException | InterruptedException e) {
			fail("sending, after " + sent + ": " + e);
		}
	}

	static void run() throws IOException, InterruptedException {
		Thread thread = new Thread(PeerJava::sender);
		String how;

		socket.setTcpNoDelay(true);
		socket.startHandshake();
		how = socket.getSession().getProtocol() + " " +
			socket.getSession().getCipherSuite();
		try {
			if (flags.containsKey("limit")) {
				takeTurns();
			} else {
				thread.start();
				receive();
			}
		} catch (IOException e) {
			fail("after " + received + ": " + e);
		}
		if (received < 2 * part)
			fail("end after " + received + " received, " + sent +
				" sent");
		thread.join();
		socket.close();
		System.out.println("Java " + System.getProperty("java.version") +
			": " + how + ", " + received + " bytes each way identical");
	}

	// ---- Setting up ----

	static KeyManager[] identity() throws Exception {
		String pem = Files.readString(Path.of(flag("key", "")));
		byte[] key = Base64.getMimeDecoder().decode(
			pem.replaceAll("-----.*-----", ""));
		KeyStore store = KeyStore.getInstance("PKCS12");
		KeyManagerFactory factory = KeyManagerFactory.getInstance("PKIX");
		char[] none = new char[0];

		store.load(null, none);
		try (InputStream in = Files.newInputStream(
				Path.of(flag("cert", "")))) {
			store.setKeyEntry("", KeyFactory.getInstance("EC")
				.generatePrivate(new PKCS8EncodedKeySpec(key)),
				none, new Certificate[] { CertificateFactory
				.getInstance("X.509").generateCertificate(in) });
		}
		factory.init(store, none);
		return factory.getKeyManagers();
	}

	static final TrustManager everybody = new X509TrustManager() {
		public void checkClientTrusted(X509Certificate[] c, String s) { }
		public void checkServerTrusted(X509Certificate[] c, String s) { }
		public X509Certificate[] getAcceptedIssuers() {
			return new X509Certificate[0];
		}
	};

	static void parse(String[] args) {
		for (int i = 0; i < args.length; i++)
			if (!args[i].startsWith("--"))
				server = args[i].equals("server");
			else if (i + 1 < args.length)
				flags.put(args[i].substring(2), args[++i]);
		part = Long.parseLong(flag("bytes", "8388608"));
		random = new Random(Long.parseLong(flag("seed", "1")));
		for (int i = 0; i < noise.length; i++)
			noise[i] = mix(~(long)i);
	}

	static void open() throws Exception {
		boolean tls12 = flag("version", "1.3").equals("1.2");
		String[] suite = { SUITES.get(flag("cipher", "AES-128-GCM"))
			[tls12 ? 1 : 0] };
		String[] version = { tls12 ? "TLSv1.2" : "TLSv1.3" };
		InetAddress here = InetAddress.getByName("127.0.0.1");
		SSLContext context = SSLContext.getInstance("TLS");
		int port = Integer.parseInt(flag("port", "0"));

		context.init(server ? identity() : null,
			new TrustManager[] { everybody }, null);
		if (server) {
			SSLServerSocket listener = (SSLServerSocket)context
				.getServerSocketFactory()
				.createServerSocket(port, 1, here);
			System.out.println("listening on 127.0.0.1:" +
				listener.getLocalPort());
			socket = (SSLSocket)listener.accept();
			listener.close();
		} else {
			socket = (SSLSocket)context.getSocketFactory()
				.createSocket(here, port);
		}
		socket.setEnabledProtocols(version);
		socket.setEnabledCipherSuites(suite);
	}

	static void giveUp() {
		try {
			Thread.sleep(60000);
		} catch (InterruptedException e) {
			return;
		}
		fail("after 60 s: sent " + sent + ", received " + received);
	}

	public static void main(String[] args) throws Exception {
		Thread watch = new Thread(PeerJava::giveUp);

		parse(args);
		// Read once, when the first suite is looked at.
		if (flags.containsKey("limit"))
			Security.setProperty("jdk.tls.keyLimits",
				"AES/GCM/NoPadding KeyUpdate 2^" +
				flag("limit", ""));
		watch.setDaemon(true);
		watch.start();
		open();
		run();
	}
}
