/* SPDX-License-Identifier: MIT */
/*
 * A connection of ours whose other end is in the test's hands: it seals and
 * opens single records with OpenSSL's EVP, well or badly as wished.
 */
#ifndef TESTS_WIRE_H
#define TESTS_WIRE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "asynctls.h"
#include "record/record.h"

struct keygen;
struct fake_engine;
struct recorder;

struct wire_options {
	enum tls_context_kind kind;
	uint16_t suite;	     /* 0: TLS_AES_128_GCM */
	bool blocking;	     /* our end; the test's end always blocks */
	bool we_are_client;
	unsigned depth;
	size_t max_memory;
	unsigned deadline_ms;
	size_t record_size;
	size_t max_fragment; /* as negotiated, or 0 */
	bool record_ramp;
	uint64_t rekey_records;
	size_t send_window;
	uint64_t tx_seq, rx_seq; /* ours to begin with */
	struct fake_engine *fake; /* in the kernel engine's place */
	const char *driver;	  /* of a real kernel's engine */
	bool no_cpu;		  /* then nothing stands in for it */
	bool tcp;		  /* over loopback instead of a socket pair */
	bool not_recorded;	  /* else by tests/support/recorder.h */
	enum tls_hybrid hybrid;
};

struct wire {
	struct tls_context *ctx;
	struct tls_conn *conn; /* under test */
	int conn_fd;
	int fd; /* the other end */
	struct keygen *seal, *open;
	uint64_t seal_seq, open_seq;
	struct recorder *recorder; /* in front of the engines, or NULL */
	size_t inner_len; /* of the record received last, with its padding */
};

void wire_new(struct wire *w, const struct wire_options *options);
/* Another connection in the same context; conn must be NULL by then. */
void wire_reopen(struct wire *w, const struct wire_options *options);
/* conn may be NULL by then. */
void wire_free(struct wire *w);
/* Have a connection of ours at the other end, too, in a context of its own. */
struct tls_conn *wire_other_end(struct wire *w, struct tls_context *ctx,
				bool blocking);

/*
 * Seal a record of this content with pad bytes of padding (TLS 1.3) into out;
 * returns its length on the wire.
 */
size_t wire_seal(struct wire *w, uint8_t type, const void *content, size_t len,
		 size_t pad, uint8_t *out);
/*
 * The other end's next keys, as after a KeyUpdate that it has sent; received,
 * one is followed by wire_open().
 */
void wire_next_keys(struct wire *w);
/* Seal and send. */
void wire_send(struct wire *w, uint8_t type, const void *content, size_t len);
/* Send bytes as they are. */
void wire_send_raw(struct wire *w, const void *bytes, size_t len);

/*
 * Receive one record and open it; returns the content's length, or -1 at the
 * end of the stream. Fails the test if it does not authenticate.
 */
ssize_t wire_receive(struct wire *w, uint8_t *type,
		     uint8_t content[RECORD_PLAIN_MAX + 256]);
/* Open a whole record; as wire_receive(). */
ssize_t wire_open(struct wire *w, uint8_t *record, uint8_t *type,
		  uint8_t *content);

/* What has arrived so far, kept; begins as { 0 }, and bytes is to be freed. */
struct tap {
	uint8_t *bytes;
	size_t room, len;
	size_t opened;	/* of len, in whole records */
	size_t data;	/* application bytes in them */
	size_t records;
	int alert;	/* if the latest record was one, else ALERT_NONE */
	bool ended;	/* the stream */
};
/*
 * Take what there is, without waiting, and open what is whole of it. Fails the
 * test if data is not the pattern.
 */
void wire_tap(struct wire *w, struct tap *tap);

/* The next record must be this alert. */
void wire_expect_alert(struct wire *w, int description);
/* Is there nothing to receive at the moment? */
bool wire_silent(struct wire *w);

/* Bytes i of a pattern that repeats at no record size. */
uint8_t pattern_byte(size_t i);
void pattern_fill(uint8_t *buf, size_t from, size_t len);
/* Fails the test where buf is not the pattern from there on. */
bool pattern_matches(const uint8_t *buf, size_t from, size_t len);
void pattern_check(const uint8_t *buf, size_t from, size_t len);

/* Connected sockets; tcp over 127.0.0.1, else a socket pair. */
void socket_pair(int fd[2], bool tcp);
void set_blocking(int fd, bool blocking);
/* Descriptors open in this process. */
int count_descriptors(void);
/* Is this how the context sends and receives? Else it is epoll. */
bool on_uring(const struct tls_context *ctx);

#endif
