/* SPDX-License-Identifier: MIT */
/*
 * libasynctls: a TLS record layer for established connections.
 *
 * OpenSSL does the handshake; then a connection is handed over and its
 * records are sealed and opened many at a time, by kernel crypto drivers
 * (AF_ALG AIO) or on this CPU, and carried by io_uring, or by epoll where that is
 * forbidden or missing.
 *
 *	struct tls_context *ctx;
 *	struct tls_conn *conn;
 *
 *	tls_context_new(&ctx, NULL);
 *	tls_handoff_prepare(ssl_ctx);		before any handshake
 *	... SSL_accept(ssl) or SSL_connect(ssl) ...
 *	tls_handoff(&conn, ctx, ssl);
 *	tls_write(conn, "hello", 5);
 *	tls_flush(conn);
 *	n = tls_read(conn, buf, sizeof(buf));	0 at the peer's close_notify
 *	tls_close(conn, 1000);
 *
 * Conventions
 *	Lengths are in bytes. A call returns a count or 0, or -errno; the words
 *	belonging to an error are in tls_last_error() (calls without a
 *	connection) or tls_conn_error() (calls with one).
 *
 * Blocking
 *	The descriptor's O_NONBLOCK decides: without it tls_write(),
 *	tls_flush() and tls_read() wait as write(2) and read(2) would, with it
 *	they return -EAGAIN and tls_context_wait() tells when to call again.
 *	SO_RCVTIMEO and SO_SNDTIMEO of the socket (socket(7)) limit how long
 *	one call waits: -EAGAIN after that, or what was done until then. They
 *	are looked at whenever a call is about to wait, so that they may be set
 *	at any time. -EINTR is never returned: a wait that a signal interrupts
 *	goes on.
 *
 * Two directions
 *	Reading and writing end, and fail, apart (RFC 8446 6.1). A peer that
 *	has sent close_notify or closed its side can be written to; a write
 *	that failed leaves what has arrived to be read, up to the peer's
 *	close_notify. What ends both is a protocol error of the peer, its fatal
 *	alert, and a reset noticed by reading.
 *
 * Threads
 *	Contexts share nothing. In a TLS_CONTEXT_WORKER context every call may
 *	be made from any thread, and one reader and one writer thread may share
 *	a connection; tls_close() must not race with calls on the same
 *	connection. A TLS_CONTEXT_LOOP context and its connections belong to
 *	the thread that created it; elsewhere every call returns -EPERM
 *	(tls_context_wake() apart). When that thread has ended, another may
 *	tls_context_adopt() it.
 *	A thread is not cancelled (pthread_cancel) inside a call.
 *	tls_context_wait(), tls_read(), tls_write() and tls_send() are
 *	cancellation points where they begin; tls_context_wake() makes a
 *	tls_context_wait() return.
 *
 * fork()
 *	Context and connections stay the parent's. In the child every call
 *	returns -EPERM and touches nothing. Where a call has no such result, in
 *	a child as in a loop's wrong thread: tls_conn_data() returns NULL,
 *	tls_conn_error() "", the alerts are -1, and tls_conn_set_data(),
 *	tls_context_free() and, in a child, tls_context_wake() do nothing.
 *
 * When the kernel refuses
 *	A sandbox entered after tls_context_new(), or a closefrom() that closes
 *	the context's descriptors, ends the context: tls_context_wait(),
 *	tls_context_process() and hand-overs return what the kernel did
 *	(-EPERM, -EACCES, -ENOSYS, -EBADF, ...) from then on, and every
 *	connection has failed with it. What is left is to close and free; a
 *	socket may be held until the context is freed.
 *
 * exec()
 *	A kernel driver that does not complete a request holds up exec() in the
 *	process that made it, SIGKILL included, until it does. tls_close() and
 *	exit do not wait for it, nor does exec() in a forked child. (Without
 *	io_uring exit does.)
 */
#ifndef ASYNCTLS_H
#define ASYNCTLS_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <sys/uio.h>

#ifdef __cplusplus
extern "C" {
#endif

/* libtls uses some of the same names, so the ELF symbols carry a prefix. */
#define ASYNCTLS_API(name) \
	__asm__("asynctls_" #name) __attribute__((visibility("default")))

/* C++ has had designated initializers since C++20 only. */
#ifdef __cplusplus
#define ASYNCTLS_INIT(name) asynctls_init<name>()
#else
#define ASYNCTLS_INIT(name) { .size = sizeof(struct name) }
#endif

#define ASYNCTLS_VERSION_MAJOR 0
#define ASYNCTLS_VERSION_MINOR 1
#define ASYNCTLS_VERSION_PATCH 0

struct tls_context; /* connections, their engines, one io_uring or epoll */
struct tls_conn;    /* one connection, both directions */
struct ssl_st;	    /* OpenSSL's SSL */
struct ssl_ctx_st;  /* OpenSSL's SSL_CTX */

/* The words for the last failed call of this thread; never NULL. */
const char *tls_last_error(void) ASYNCTLS_API(last_error);

/* ---- Contexts ---------------------------------------------------------- */

enum tls_context_kind {
	/*
	 * A worker thread transmits what the application leaves behind, and
	 * one lock makes every call thread-safe. Completions may interrupt the
	 * application's own sleeping system calls: expect EINTR from
	 * epoll_wait() and from receives with a timeout, and short counts
	 * from recv(), MSG_WAITALL or not, and write().
	 */
	TLS_CONTEXT_WORKER,
	/*
	 * No lock and no worker: one thread owns the context and promises to
	 * come back to tls_context_process() or tls_context_wait(). Until it
	 * does, nothing held back moves. (On kernels whose io_uring cannot put
	 * completions off until then, before 6.1 and some of 6.12 and 7.3,
	 * expect EINTR and short counts as above.)
	 */
	TLS_CONTEXT_LOOP,
};

enum tls_engine {
	/*
	 * AF_ALG where a probe measures that its driver is asynchronous and
	 * the driver is no software wrapper (pcrypt, cryptd, simd); else CPU.
	 * Should no CPU engine work here: AF_ALG, whatever the driver.
	 */
	TLS_ENGINE_AUTO,
	TLS_ENGINE_AFALG, /* the kernel's driver, of whatever sort */
	/*
	 * In this process: with intel-ipsec-mb where the build has it and the
	 * CPU AES-NI, else with libgcrypt. What one cannot do the other does.
	 */
	TLS_ENGINE_CPU,
};

/*
 * Whether each record goes to the kernel engine or to the CPU's by what its
 * length and the records behind it promise, from measured times.
 */
enum tls_hybrid {
	TLS_HYBRID_DEFAULT, /* on with TLS_ENGINE_AUTO, else off */
	TLS_HYBRID_ON,
	TLS_HYBRID_OFF, /* all to the kernel engine while it is well */
};

/* How a context sends and receives. */
enum tls_io {
	/* io_uring where it works, else poll; tls_context_describe() says why */
	TLS_IO_AUTO,
	TLS_IO_URING,
	/*
	 * epoll and non-blocking calls, and Linux AIO for AF_ALG: in containers
	 * that forbid io_uring, and wherever else there is none.
	 */
	TLS_IO_POLL,
};

/*
 * Zero in any field means its default. Fields will only be added at the end, and
 * size tells what a program knew of: a library that knows more of them takes the
 * defaults for the rest, one that knows less takes the struct while the rest is
 * 0. So it is with every struct here that begins with its size.
 */
struct tls_config {
	size_t size; /* sizeof(struct tls_config); TLS_CONFIG_INIT sets it */
	enum tls_context_kind kind;
	/*
	 * The environment variable ASYNCTLS_ENGINE (auto, afalg, cpu), where
	 * set, overrides the engine, ASYNCTLS_DRIVER the driver, and
	 * ASYNCTLS_CPU (ipsec-mb, gcrypt) names the library of the CPU engine.
	 */
	enum tls_engine engine;
	/*
	 * A kernel driver by its cra_driver_name in /proc/crypto, for example
	 * "pcrypt(generic-gcm-aesni)". Naming one implies TLS_ENGINE_AFALG.
	 * Ciphers it does not implement are sealed on the CPU.
	 */
	const char *driver;
	/* Records in an engine at once, per connection and direction; 32. */
	unsigned depth;
	/*
	 * Bytes of memory for records per context at most, whatever peers do;
	 * 64 MiB, and never less than 1 MiB. Half of it is for each direction,
	 * and what the kernel receives into and what is kept for the next
	 * records is within it. Data that there is no memory for stays in the
	 * socket, and is received by tls_read() itself; writes find no room.
	 * Beside it a connection takes some 4 KB with its keys, and 1 KB for
	 * each direction while records are in line; what a driver that hangs holds
	 * (memory_parked), and where no CPU engine works what one
	 * record of a connection needs, may come on top. A context that has
	 * been idle for about a second has given the memory back.
	 */
	size_t max_memory;
	/* AF_ALG operation sockets open at once per context; 256. */
	unsigned max_op_sockets;
	/*
	 * Milliseconds the kernel engine has for a record before the CPU
	 * engine seals or opens it instead; 1,000.
	 */
	unsigned deadline_ms;
	enum tls_hybrid hybrid;
	/* Application bytes in a record at most, 64 to 16,384; 16,384. */
	size_t record_size;
	/*
	 * Not 0: records are small at first, so that a peer can open the first
	 * one when the first segment has come, and grow: on a new connection,
	 * and again on one that has sent nothing for 1 s, 1,369 bytes each for
	 * 16 KiB (a TCP segment on Ethernet), then 4,229 (three) up to 64 KiB,
	 * then record_size.
	 */
	int record_ramp;
	/*
	 * Records sealed under one key before a KeyUpdate goes first; 2^22
	 * for AES-GCM and AES-CCM, 2^62 for ChaCha20-Poly1305. Never more than
	 * a key is good for: 2^24 for AES-GCM, and those numbers. (Some peers
	 * ask for new keys sooner: Java's after 2^23 full records.) Of a peer
	 * that sends a quarter more under one key a KeyUpdate is requested.
	 * TLS 1.2 has none, and is not concerned: writing ends with the number
	 * a key is good for.
	 */
	uint64_t rekey_records;
	/*
	 * For debugging, NULL: not wanted. Append the secrets that KeyUpdates
	 * make, in both directions, to this file (made with mode 0600), in the
	 * NSS key log format (RFC 9850): CLIENT_TRAFFIC_SECRET_1 and so on.
	 * What comes before them is OpenSSL's to log, or whoever did the
	 * handshake: SSL_CTX_set_keylog_callback(), to the same file, opened
	 * with O_APPEND. Who can read it can read the connections. A line that
	 * cannot be written (no room, a FIFO that is full or has lost its
	 * reader) is left out, without a signal and without waiting; a FIFO
	 * without a reader is refused to begin with.
	 */
	const char *keylog_file;
	/*
	 * Not 0: a stream that ends without close_notify is no error; see
	 * tls_conn_ignore_eof().
	 */
	int ignore_eof;
	/*
	 * Wire bytes a connection holds at most that the socket has not taken;
	 * see tls_conn_set_send_window(). 2 * depth full records (1 MiB).
	 */
	size_t send_window;
	/* The environment variable ASYNCTLS_IO (auto, uring, poll) overrides it. */
	enum tls_io io;
};
#define TLS_CONFIG_INIT ASYNCTLS_INIT(tls_config)

/*
 * Create a context; config may be NULL for all defaults. Probes the kernel's
 * crypto drivers unless the CPU engine was asked for (some milliseconds).
 *
 * -EINVAL	a field or an environment variable has no such value
 * -E2BIG	a field that this version of the library does not know is set
 * -ENODEV	the engine asked for does not exist here
 * -ENOMEM	no memory
 * -EMFILE, ...
 *
 * and, where TLS_IO_URING was asked for:
 *
 * -EPERM	io_uring is forbidden (seccomp, kernel.io_uring_disabled)
 * -ENOSYS	the kernel has no io_uring, or one older than Linux 5.19
 * -EOPNOTSUPP	io_uring is switched off in this sandbox (-95)
 * -ENOMEM	more io_uring than RLIMIT_MEMLOCK (ulimit -l) has room for
 */
int tls_context_new(struct tls_context **ctx, const struct tls_config *config)
	ASYNCTLS_API(context_new);

/*
 * Free a context. Connections still open are closed as by tls_close(conn, 0).
 * NULL is allowed.
 */
void tls_context_free(struct tls_context *ctx) ASYNCTLS_API(context_free);

/*
 * Become the owner of a TLS_CONTEXT_LOOP whose owner has ended, to go on with it
 * or to free it. The kernel has frozen what that thread had under way: a
 * connection with a send in flight fails with -EOWNERDEAD, since nobody knows
 * how much of it was sent; all others go on, nothing of what they receive is
 * lost, and tls_close() has exact results. tls_context_fd() is another
 * descriptor from then on.
 *
 * Returns 0, also to the owner; -EBUSY: the owner lives, or another thread has
 * been quicker; -EINVAL: a TLS_CONTEXT_WORKER belongs to no thread; -EPERM: in a
 * forked child; or as tls_context_new(): then the context is the caller's, but
 * only to be freed.
 */
int tls_context_adopt(struct tls_context *ctx) ASYNCTLS_API(context_adopt);

/*
 * End a wait: the tls_context_wait() that sleeps, or else the next one, returns
 * early, with 0 if there are no events, and the descriptor polls readable until
 * it has (or tls_context_process()). Once, however often this is called before.
 * From any thread, a loop's or not, and from a signal handler; the context must
 * not be freed meanwhile. Nothing in a forked child.
 */
void tls_context_wake(struct tls_context *ctx) ASYNCTLS_API(context_wake);

/*
 * A descriptor that polls readable when tls_context_process() or
 * tls_context_wait() has something to do. It belongs to the context; do
 * nothing with it but poll. What completes inside your own calls is told by
 * tls_context_wait() and nowhere else, so call that once in every turn of your
 * loop, with a time-out of 0, before you poll. If it stores no event, you may
 * sleep. If it does, handle them, poll without sleeping (time-out 0), and see to
 * your other descriptors: clients that send fast enough can have events for
 * ever, and a listener must not wait for them to stop. What is due at a time, a
 * deadline of a record, makes a loop's descriptor readable then.
 */
int tls_context_fd(const struct tls_context *ctx) ASYNCTLS_API(context_fd);

/*
 * Collect completions, open and seal what follows from them, transmit
 * everything held back. Never waits, and does not go on for as long as peers
 * send: what is left then makes the descriptor readable. Returns 0 or -errno.
 */
int tls_context_process(struct tls_context *ctx)
	ASYNCTLS_API(context_process);

/*
 * tls_read() will not return -EAGAIN: unless connections that are not read hold
 * all memory, when what has come may turn out to be no data, or half a record.
 */
#define TLS_READABLE 1u
/*
 * After tls_write() took less than it was given: there is room. After
 * tls_flush() or tls_shutdown() left something: the socket has all of it.
 */
#define TLS_WRITABLE 2u
/*
 * Reading has ended, or a direction has failed. Once for either, so perhaps
 * twice. What has arrived is there to be read all the same: read until
 * tls_read() returns 0 or an error before you close.
 */
#define TLS_CLOSED 4u

struct tls_event {
	struct tls_conn *conn;
	void *data; /* as given at hand-over or to tls_conn_set_data() */
	unsigned events;
};

/*
 * Which events tls_context_wait() is to report for this connection; all of
 * them to begin with. Who cannot take more data now, because a write found no
 * room, leaves TLS_READABLE out until TLS_WRITABLE comes. (Data not read stays
 * with the peer, by TCP's flow control.)
 */
int tls_conn_want(struct tls_conn *conn, unsigned events)
	ASYNCTLS_API(conn_want);

/*
 * Process, then wait until a connection has an event or timeout_ms
 * milliseconds have passed (-1: no limit, 0: do not wait). Readable is reported
 * as long as tls_read() would return something the application has not had;
 * writable once after each refusal. Returns how many events were stored, 0
 * after the time-out.
 *
 * An event names a connection: after tls_close() on one, in whatever thread,
 * skip what is left for it in an array stored before. The library itself keeps
 * no event of a connection that is closed.
 */
int tls_context_wait(struct tls_context *ctx, struct tls_event *events, int max,
		     int timeout_ms) ASYNCTLS_API(context_wait);

/*
 * Write to buf, as snprintf() does, one line on how it sends and receives, and
 * why not with io_uring, and one per cipher: which engine and driver seal it, and
 * why not another.
 */
int tls_context_describe(const struct tls_context *ctx, char *buf, size_t len)
	ASYNCTLS_API(context_describe);

/* ---- Hand-over --------------------------------------------------------- */

/*
 * Make connections of this SSL_CTX fit for hand-over: call once, before the
 * first handshake, and after setting a keylog or info callback of your own on it
 * (they are called in turn). TLS 1.2 needs the info callback: one that is set on
 * an SSL itself takes its place, and that connection is declined then.
 * Returns 0 or -errno.
 */
int tls_handoff_prepare(struct ssl_ctx_st *ssl_ctx)
	ASYNCTLS_API(handoff_prepare);

/*
 * Take a connection over from OpenSSL, both directions, after SSL_accept() or
 * SSL_connect() succeeded, as server or client. TLS 1.3 and TLS 1.2, any suite
 * with AES-GCM, ChaCha20-Poly1305 or AES-CCM (but not CCM_8), whatever its key
 * exchange, resumed or not; max_fragment_length (RFC 6066 4) is honoured. What a
 * peer of TLS 1.2 asks for later, a renegotiation, is refused with a warning, and
 * the connection goes on.
 *
 * On success data read by OpenSSL but not yet by the application comes first
 * out of tls_read(). The SSL may be freed at any time, even at once; do not
 * call SSL_read, SSL_write or SSL_shutdown on it again, nor BIO_reset on a BIO
 * of its.
 *
 * The descriptor must stay open until tls_close(), and stays the application's
 * to close; but one that a BIO of the SSL would close (BIO_CLOSE: that of
 * BIO_new_connect(), or accepted by BIO_do_accept()) is closed by tls_close(),
 * or by SSL_free() if that comes later. One closed too early may be another
 * connection's by then, which would get these records: where that one is to be
 * handed over, too, it is declined. SO_RCVLOWAT is 1 until tls_close(), which
 * gives it back.
 *
 * What OpenSSL was told of the records it sends cannot be asked, and ends with
 * the hand-over: instead of SSL_CTX_set_block_padding() or a padding callback
 * there is tls_conn_set_padding(), of SSL_CTX_set_max_send_fragment()
 * tls_conn_set_record_size(). After a fatal alert, either side's, tls_close()
 * removes a session of TLS 1.2 from the cache of the SSL_CTX, as OpenSSL does.
 *
 * Session tickets (RFC 8446 4.6.1) that a client receives after that are given
 * to OpenSSL where its SSL_CTX has SSL_SESS_CACHE_CLIENT in its session cache
 * mode: tls_read() and tls_close() then call the callback set with
 * SSL_CTX_sess_set_new_cb(), in the calling thread and without a lock, but it
 * must not close this connection. Info and message callbacks are not called.
 * The connection keeps a reference to the SSL for that until tls_close() (some
 * 12 KB): do not use it for another one with SSL_clear() before. Elsewhere,
 * where OpenSSL held half a record at the hand-over, and where no CPU engine
 * works, tickets are skipped.
 *
 * On failure the SSL is as usable as before, and tls_last_error() says why:
 * -EINVAL	the context was not prepared, the handshake is not finished or
 *		has failed, or the SSL has no descriptor of its own
 * -EOPNOTSUPP	a version or cipher suite this library does not carry, kTLS is
 *		in use already, or no engine has the cipher
 * -ENOTSOCK	the descriptor is no stream socket
 * -EALREADY	the descriptor is that of another connection
 * -EBUSY	OpenSSL holds bytes that belong to the connection (records read
 *		ahead, an unfinished write), or a message or a renegotiation is
 *		under way: go on with SSL_read or SSL_write
 * -EPROTO	keys and sequence numbers could not be proved to be in step
 * -ETIMEDOUT	no CPU engine works here, and the kernel driver did not open a
 *		record for that within tls_config.deadline_ms
 * -ENOMEM
 */
int tls_handoff(struct tls_conn **conn, struct tls_context *ctx,
		struct ssl_st *ssl) ASYNCTLS_API(handoff);

/* What a connection begins with; zero in any field means its default. */
struct tls_options {
	size_t size; /* sizeof(struct tls_options); TLS_OPTIONS_INIT sets it */
	/*
	 * As tls_conn_set_data() would set it, but before another thread's
	 * tls_context_wait() can store the first event; NULL.
	 */
	void *data;
	unsigned events; /* as tls_conn_want(); all of them */
	int ignore_eof; /* as tls_config.ignore_eof, which holds without */
	size_t send_window; /* as tls_config.send_window, likewise */
};
#define TLS_OPTIONS_INIT ASYNCTLS_INIT(tls_options)

/* tls_handoff() with options; NULL: none. */
int tls_handoff_with(struct tls_conn **conn, struct tls_context *ctx,
		     struct ssl_st *ssl, const struct tls_options *options)
	ASYNCTLS_API(handoff_with);

#define TLS_AES_128_GCM 0x1301	     /* TLS_AES_128_GCM_SHA256 */
#define TLS_AES_256_GCM 0x1302	     /* TLS_AES_256_GCM_SHA384 */
#define TLS_CHACHA20_POLY1305 0x1303 /* TLS_CHACHA20_POLY1305_SHA256 */
#define TLS_AES_128_CCM 0x1304	     /* TLS_AES_128_CCM_SHA256 */

/*
 * What another TLS stack knows of a connection (RFC 8446 7.1; RFC 5246 6.3).
 * Any AEAD suite of TLS 1.2 with AES-GCM, ChaCha20-Poly1305 or AES-CCM, but
 * those with a tag of 8 bytes, will do, whatever its key exchange.
 */
struct tls_secrets {
	size_t size; /* TLS_SECRETS_INIT sets it */
	uint16_t cipher_suite;
	size_t secret_len;	   /* TLS 1.3: 32, for SHA-384 suites 48 */
	const uint8_t *tx_secret;  /* our application traffic secret */
	const uint8_t *rx_secret;  /* the peer's */
	uint64_t tx_seq;	   /* sequence number of the next record */
	uint64_t rx_seq;
	int is_server;		   /* we are the server */
	const void *rx_data;	   /* received after that, still sealed */
	size_t rx_data_len;	   /* at most 18,437 */
	/*
	 * For a suite of TLS 1.2, in place of tx_secret and rx_secret:
	 * secret_len is 48, and both randoms are 32 bytes. In TLS 1.3
	 * client_random is for tls_config.keylog_file; NULL: no key log.
	 */
	const uint8_t *master_secret; /* extended (RFC 7627) or not */
	const uint8_t *client_random;
	const uint8_t *server_random;
	/*
	 * Content of a record at most, both ways, where max_fragment_length
	 * (RFC 6066 4) was negotiated; 0: 2^14.
	 */
	size_t max_fragment;
	const struct tls_options *options; /* NULL: none */
};
#define TLS_SECRETS_INIT ASYNCTLS_INIT(tls_secrets)

/*
 * Take over a connected stream socket from secrets. Copies what it needs.
 * Errors as above, and -E2BIG as tls_context_new(); -ENOTCONN: the socket is not
 * connected, or not any more.
 */
int tls_handoff_secrets(struct tls_conn **conn, struct tls_context *ctx, int fd,
			const struct tls_secrets *secrets)
	ASYNCTLS_API(handoff_secrets);

/* ---- Data -------------------------------------------------------------- */

/*
 * Send len bytes. They are cut into records of at most 2^14 bytes, copied or
 * sealed before the call returns, and may be held back for a moment so that
 * many leave in one send: they enter the kernel when 512 KiB are held, when the
 * window is full, with tls_flush(), tls_context_process(), tls_context_wait(),
 * tls_close() and a tls_read() that finds nothing. In a worker context also at
 * once when the connection has been idle for 1 ms, and within about 1 ms in any
 * case. A loop context leaves that to the next process or wait, where the sends
 * of many connections share a system call; a worker context, too, for a thread
 * that got several events from tls_context_wait() and has not called it again.
 *
 * Returns how many bytes were taken: fewer than len only on a non-blocking
 * descriptor whose window is full, or after SO_SNDTIMEO; then -EAGAIN if none.
 * After an error of writing, or one that ends both directions: that error,
 * every time; tls_last_error() has its words, too.
 *
 * -EPIPE	after tls_shutdown(); or the peer has closed
 * -ECONNRESET, ...  as send(2)
 * -EKEYEXPIRED	TLS 1.2: as many records were sent as one key is good for
 * -EIO		no engine could seal a record
 * -ENOMEM	there is no memory for a record: that does not stick
 */
ssize_t tls_write(struct tls_conn *conn, const void *buf, size_t len)
	ASYNCTLS_API(write);

/*
 * More follows: leave the last record open, until a write without this flag
 * completes it or tls_flush(), tls_read() or tls_close() seals it.
 */
#define TLS_MORE 1u
/* Do not wait, O_NONBLOCK or not: for tls_send() and tls_recv(). */
#define TLS_DONTWAIT 2u
/* Leave what is read to be read again: for tls_recv(). */
#define TLS_PEEK 4u

/* tls_write() with flags: TLS_MORE, TLS_DONTWAIT. */
ssize_t tls_send(struct tls_conn *conn, const void *buf, size_t len,
		 unsigned flags) ASYNCTLS_API(send);

/*
 * tls_write() of iovcnt buffers one behind the other. Records do not mind where
 * one ends: a header and a body leave as one record where they fit. What lies
 * in one buffer is not copied where tls_write() would not; a record that spans
 * buffers is copied, once, to be put together. Lengths of 0 are allowed.
 *
 * Returns as tls_write(), or -EINVAL: iovcnt is negative, or the sum of the
 * lengths over SSIZE_MAX (tls_last_error() has the words).
 */
ssize_t tls_writev(struct tls_conn *conn, const struct iovec *iov, int iovcnt)
	ASYNCTLS_API(writev);

/*
 * Send up to count bytes of a file, from *offset on, which is moved on by what
 * was taken, or from the file's position (and that is moved on) if offset is
 * NULL: as sendfile(2), which this cannot be. The file is read, a record at a
 * time, into the memory that records are sealed from: no other copy is made on
 * either engine (tx_copied_bytes does not count it), and no mapping. An open
 * record is gone on with, so that a header written with TLS_MORE leaves in one
 * record with what it announces; the last record is sealed as by tls_write().
 *
 * Returns how many bytes were taken: fewer than count at the end of the file,
 * wherever that is by then, on a non-blocking descriptor whose window is full,
 * and before an error in reading the file. The next call tells which: 0, -EAGAIN
 * or the error. O_NONBLOCK is about the connection's descriptor: reading the
 * file may wait for the disk, with the context locked.
 *
 * Errors of the file leave the connection usable, tls_conn_error() is "" and
 * tls_last_error() has the words:
 * -EBADF	file_fd is not open for reading
 * -EISDIR	it is a directory
 * -ESPIPE	it is a pipe, socket or the like, and there is an offset
 * -EINVAL	... and there is none; or the offset is negative
 * -EIO, ...	as pread(2)
 */
ssize_t tls_sendfile(struct tls_conn *conn, int file_fd, off_t *offset,
		     size_t count) ASYNCTLS_API(sendfile);

/*
 * Seal the open record and push everything towards the socket. Returns how
 * many application bytes the socket has not taken yet: on a blocking
 * descriptor 0, since it waits for them; else at most so many, since a send
 * under way tells how far it is when it ends.
 */
ssize_t tls_flush(struct tls_conn *conn) ASYNCTLS_API(flush);

/*
 * tls_flush() that waits for the socket at most timeout_ms milliseconds (-1: as
 * long as it takes, 0: not at all), O_NONBLOCK or not. What it returns is
 * exact: the socket has taken none of the records that these application
 * bytes, the last ones written, are in, but perhaps a part of the first. They
 * stay in line, and are held back as after tls_write(): sending goes on with
 * the next call, or by the worker. TLS_WRITABLE tells when they are gone. An
 * engine that hangs does not prolong the wait.
 */
ssize_t tls_flush_timeout(struct tls_conn *conn, int timeout_ms)
	ASYNCTLS_API(flush_timeout);

/*
 * Receive up to len bytes of authenticated plaintext, of several records if
 * there are several. 0 (for len > 0): the peer has sent close_notify. -EAGAIN:
 * nothing has come, on a non-blocking descriptor or after SO_RCVTIMEO.
 *
 * These stay, once what came before is read; all but -ENODATA end writing, too:
 * -EBADMSG	a record did not authenticate (bad_record_mac was sent)
 * -EMSGSIZE	a record was too long (record_overflow was sent)
 * -EPROTO	the peer broke the protocol, or sent a fatal alert
 * -ENODATA	the peer ended the stream (a FIN) without close_notify (RFC 8446
 *		6.1): what was read may be truncated; tls_conn_ignore_eof()
 * -ECONNRESET	the connection was reset: what was read may be truncated
 * -ETIMEDOUT, ...  as recv(2)
 * -EKEYEXPIRED	the peer has used all the sequence numbers of a key
 */
ssize_t tls_read(struct tls_conn *conn, void *buf, size_t len)
	ASYNCTLS_API(read);

/*
 * tls_read() with flags: TLS_DONTWAIT, TLS_PEEK, which sees what is left of one
 * record and no further. -EINVAL: others.
 */
ssize_t tls_recv(struct tls_conn *conn, void *buf, size_t len, unsigned flags)
	ASYNCTLS_API(recv);

/*
 * Whether a stream that ends without close_notify, wherever that is, ends like
 * one with it: tls_read() returns 0. For protocols that know by themselves
 * whether all has come, and peers that do not send close_notify. In the
 * ordinary it is -ENODATA; set at hand-over already where the SSL has
 * SSL_OP_IGNORE_UNEXPECTED_EOF. Returns 0 or -errno.
 */
int tls_conn_ignore_eof(struct tls_conn *conn, int ignore)
	ASYNCTLS_API(conn_ignore_eof);

/*
 * After tls_read() has returned 0 for a close_notify: up to len bytes that came
 * behind it in the clear and are the application's, where the protocol goes on
 * without TLS (FTP's CCC, an upgraded connection). Call until it returns 0,
 * before tls_close(); what comes later is in the socket. Never waits for the
 * peer. -EINVAL: there was no close_notify yet.
 */
ssize_t tls_conn_leftover(struct tls_conn *conn, void *buf, size_t len)
	ASYNCTLS_API(conn_leftover);

/*
 * Send close_notify after everything written; reading goes on. Returns as
 * tls_flush() does; a second call is a tls_flush().
 */
ssize_t tls_shutdown(struct tls_conn *conn) ASYNCTLS_API(shutdown);

/*
 * Send what is left and close_notify, waiting at most timeout_ms milliseconds
 * (-1: as long as it takes) for the socket to take it, and free the
 * connection. Returns how many application bytes the socket did not take:
 * they are lost, and close_notify with them. (With a time-out of 0 and a full
 * socket close_notify alone may be lost: 0 then, and the peer sees truncation.)
 * A connection whose writing failed returns that error; one whose reading alone
 * did, the count. The descriptor stays open: closing it is the application's
 * (but see tls_handoff() about BIO_CLOSE). NULL is allowed.
 *
 * The count is of the last bytes written, as that of tls_flush_timeout():
 * those in a record that an engine has not finished, in the open one, or in one
 * of which the socket has taken only a part (what follows it would be no TLS:
 * close the descriptor).
 *
 * Taken by the socket is not received by the peer. close(2) leaves to the
 * kernel to go on sending, without telling how that ends; SO_LINGER has it wait
 * for that, or with a linger time of 0 discard it. But a socket closed with
 * data in it that was not read resets the connection, and the peer may lose
 * what it has not read: to be sure, tls_shutdown(), tls_read() until it returns
 * 0, tls_close(), close().
 */
ssize_t tls_close(struct tls_conn *conn, int timeout_ms) ASYNCTLS_API(close);

/* ---- Keys -------------------------------------------------------------- */

/* Ask for the peer's KeyUpdate, too: update_requested of RFC 8446 4.6.3. */
#define TLS_UPDATE_REQUESTED 1u

/*
 * Send under new keys from here on: a KeyUpdate (RFC 8446 4.6.3) goes out
 * behind what was written so far; what is still kept by TLS_MORE goes under the
 * new keys. Needs no call in the ordinary: it is done in time for every cipher
 * (tls_config.rekey_records), and a peer's KeyUpdates are followed, and answered
 * if they ask for it. Never waits: where the window is full, the KeyUpdate goes
 * first when there is room. Peers end a connection with more than 32 KeyUpdates
 * in a row and no data between them; so does this library, answers to its own
 * apart.
 *
 * Returns 0; -EOPNOTSUPP: TLS 1.2 has no KeyUpdate; -EPIPE after
 * tls_shutdown(); -EINVAL: no such flags; or the connection's error.
 */
int tls_conn_update_keys(struct tls_conn *conn, unsigned flags)
	ASYNCTLS_API(conn_update_keys);

/* ---- The shape of records ---------------------------------------------- */

/*
 * Put at most max application bytes into a record from now on (one that is open
 * already keeps its size): 64 to 16,384. tls_config.record_size is what a
 * connection begins with. Smaller records can be opened sooner by a peer on a
 * slow network, and cost 22 bytes and an operation each. Padding comes on top.
 * Where max_fragment_length was negotiated, records are no longer than that,
 * whatever is set here.
 * Returns 0, or -EINVAL with words in tls_last_error().
 */
int tls_conn_set_record_size(struct tls_conn *conn, size_t max)
	ASYNCTLS_API(conn_set_record_size);

/*
 * Hide lengths: pad every record from now on, alerts too, so that content,
 * type byte and zeros (RFC 8446 5.4) are a multiple of block bytes, or 2^14 + 1
 * where the next multiple is beyond that. 0 (to begin with) and 1: no padding;
 * at most 16,384. Padding is sealed and sent like data: tx_padding_bytes counts
 * it. Costs no copy. Returns 0, or with words in tls_last_error() -EINVAL, or
 * -EOPNOTSUPP: records of TLS 1.2 have no padding.
 */
int tls_conn_set_padding(struct tls_conn *conn, size_t block)
	ASYNCTLS_API(conn_set_padding);

/*
 * Hold at most that many wire bytes which the socket has not taken yet (and the
 * end of the record that reaches it): tls_write() takes no more until there is
 * room, and TLS_WRITABLE tells when. Less than SO_SNDBUF's size keeps a slow
 * peer's data short; more than a peer's window keeps a fast one's pipeline full.
 * At least 1. Returns 0, or -EINVAL with words in tls_last_error().
 */
int tls_conn_set_send_window(struct tls_conn *conn, size_t bytes)
	ASYNCTLS_API(conn_set_send_window);

/* ---- About a connection ------------------------------------------------ */

/* The descriptor, and a pointer of the application's. */
int tls_conn_fd(const struct tls_conn *conn) ASYNCTLS_API(conn_fd);
void tls_conn_set_data(struct tls_conn *conn, void *data)
	ASYNCTLS_API(conn_set_data);
void *tls_conn_data(const struct tls_conn *conn) ASYNCTLS_API(conn_data);

/*
 * The words for what failed, or "" while nothing has: in reading, else in
 * writing. A call that returns an error has its own words in tls_last_error().
 */
const char *tls_conn_error(const struct tls_conn *conn)
	ASYNCTLS_API(conn_error);

/* Alert descriptions (RFC 8446 6) sent and received; -1 where none was. */
int tls_conn_alert_sent(const struct tls_conn *conn)
	ASYNCTLS_API(conn_alert_sent);
int tls_conn_alert_received(const struct tls_conn *conn)
	ASYNCTLS_API(conn_alert_received);

/*
 * Write "TLSv1.3 TLS_AES_128_GCM_SHA256, afalg DRIVER" or the like to buf; the
 * suite is named as IANA lists it.
 */
int tls_conn_describe(const struct tls_conn *conn, char *buf, size_t len)
	ASYNCTLS_API(conn_describe);

/* ---- Statistics -------------------------------------------------------- */

enum { TLS_BY_CPU, TLS_BY_KERNEL, TLS_BY_COUNT };

/* Why the CPU engine took a record over from the kernel's. */
enum {
	TLS_FAILOVER_NO_SOCKET, /* max_op_sockets, or no descriptor left */
	TLS_FAILOVER_FULL,	/* the driver's queue (EBUSY, ENOSPC) */
	TLS_FAILOVER_NO_MEMORY, /* in the kernel */
	TLS_FAILOVER_DEADLINE,	/* not complete in time */
	TLS_FAILOVER_TAG,	/* EBADMSG: to be confirmed */
	TLS_FAILOVER_ERROR,	/* anything else */
	TLS_FAILOVER_COUNT
};

/*
 * Counted from the creation of the context, or of the connection (where what
 * belongs to a context is 0); always on. Fields will only be added at the end.
 */
struct tls_stats {
	uint64_t tx_records[TLS_BY_COUNT]; /* sealed, by engine */
	uint64_t tx_bytes[TLS_BY_COUNT];   /* application bytes of them */
	uint64_t rx_records[TLS_BY_COUNT]; /* opened, by engine */
	uint64_t rx_bytes[TLS_BY_COUNT];
	/*
	 * Plaintext copied before sealing; AES-CCM with TLS 1.3 on the CPU
	 * engine takes one copy, since it must have a record in one piece.
	 */
	uint64_t tx_copied_bytes;
	uint64_t tx_padding_bytes; /* zeros sealed with it */
	uint64_t tx_in_flight_now;  /* records in an engine */
	uint64_t rx_in_flight_now;
	uint64_t tx_in_flight_peak; /* most of one connection */
	uint64_t rx_in_flight_peak;
	uint64_t out_of_order;	/* completed before an earlier record */
	uint64_t failovers;	/* records the CPU engine took over */
	uint64_t failovers_for[TLS_FAILOVER_COUNT]; /* by reason */
	uint64_t pauses;	/* times the kernel engine was given a rest */
	uint64_t sends;		/* io_uring sends that completed */
	uint64_t sent_records;	/* records that left with them */
	uint64_t ready_wait_ns; /* what the oldest record of each had waited */
	uint64_t sent_bytes;	/* wire bytes of them */
	uint64_t receives;	/* io_uring receives that completed */
	uint64_t received_bytes;
	uint64_t enters;	/* system calls to send, receive and wait */
	uint64_t allocations;	/* times memory was asked of the system */
	uint64_t connections;	/* handed over so far */
	uint64_t connections_now;
	uint64_t connections_failed; /* ended by an error */
	uint64_t op_sockets_now;     /* AF_ALG operation sockets open */
	uint64_t op_sockets_peak;
	uint64_t memory_now;	/* bytes of max_memory that records hold */
	uint64_t memory_peak;
	uint64_t memory_parked; /* a driver may still write to it */
	uint64_t deferred_scheduled; /* times the worker was asked to watch */
	uint64_t deferred_cancelled; /* ... and found the application busy */
	uint64_t deferred_run;	     /* ... and transmitted in its stead */
	uint64_t tx_rekeys; /* KeyUpdates sent */
	uint64_t rx_rekeys; /* ... and received */
};

/*
 * Copy the counters of a context, with all connections it has and had, or of
 * one connection. size is sizeof(struct tls_stats), here and below: what an
 * older program does not know of is left out, and what a newer one knows of
 * beyond this library is 0.
 */
int tls_context_stats(struct tls_context *ctx, struct tls_stats *stats,
		      size_t size) ASYNCTLS_API(context_stats);

int tls_conn_stats(struct tls_conn *conn, struct tls_stats *stats, size_t size)
	ASYNCTLS_API(conn_stats);

/* Add more to total; of peaks the larger remains. */
void tls_stats_add(struct tls_stats *total, const struct tls_stats *more,
		   size_t size) ASYNCTLS_API(stats_add);

/* Write stats as one line of JSON to buf, as snprintf() does. */
int tls_stats_json(const struct tls_stats *stats, size_t size, char *buf,
		   size_t len) ASYNCTLS_API(stats_json);

#ifdef __cplusplus
}

template <typename sized> inline sized asynctls_init()
{
	sized all = {};

	all.size = sizeof(all);
	return all;
}
#endif

#endif /* ASYNCTLS_H */
