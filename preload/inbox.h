/* SPDX-License-Identifier: MIT */
/*
 * What has been received of a connection, whole records and the start of one.
 *
 * A program that polls its descriptor must find it readable while a record is
 * there that it could read and cannot know of otherwise. OpenSSL, unless told to
 * read ahead, takes from the socket no more than the record it reads. So does
 * this, as far as anybody can tell, in three ways:
 *  - INBOX_PEEK, for TCP: many records are copied at once and left in the socket
 *    (MSG_PEEK); when the last whole one of them is read, they are removed by a
 *    call that copies nothing (MSG_TRUNC). Two calls for many records, where
 *    OpenSSL has two for each.
 *  - INBOX_AHEAD: the program has asked to read ahead; one call for many.
 *  - INBOX_EXACT, for other sockets and for BIOs: the header, then the rest, as OpenSSL does.
 */
#ifndef ASYNCTLS_INBOX_H
#define ASYNCTLS_INBOX_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "record/record.h"

struct bio_st;

enum { INBOX_SIZE = (64 << 10) + RECORD_WIRE_MAX };

enum inbox_how { INBOX_PEEK, INBOX_AHEAD, INBOX_EXACT };

struct inbox {
	int fd;
	enum inbox_how how;
	bool hides_type;
	uint8_t *bytes;	   /* NULL: nothing is here */
	bool put_by; /* in memory that has just the start of a record */
	size_t start, end; /* what was not read yet */
	size_t owed; /* the last so many up to end are in the socket, too */
	size_t usual; /* length of a record: the last one's */
};

/* hides_type: all records are of type application_data, as with TLS 1.3. */
void inbox_init(struct inbox *in, int fd, bool ahead, bool hides_type);
void inbox_free(struct inbox *in);
/* The program wants to read ahead from now on, or not to. */
void inbox_ahead(struct inbox *in, bool ahead);

/*
 * Another socket takes the place of this one (-1: a BIO). What was only looked at
 * stays in the old one, as OpenSSL has not taken it.
 */
void inbox_move(struct inbox *in, int fd);

/*
 * The record at the front: 1, with *record and *len, in memory that is the
 * caller's until inbox_pass(). It is as long as its header says; if that is
 * none that TLS knows, or of more than can be, only the header is there. 0: the
 * stream has ended; or -errno of recv(); of a BIO that gave nothing, and will not
 * say why, -ENODATA. wait false: -EAGAIN rather than waiting, if the socket would.
 * bio, if not NULL, is read in place of the socket.
 */
int inbox_record(struct inbox *in, struct bio_st *bio, uint8_t **record,
		 size_t *len, bool wait);
/* It has been read: the program need not find it in the socket any more. */
void inbox_pass(struct inbox *in, size_t len);
/*
 * What was only looked at, behind what has been read, is the socket's again: after
 * close_notify a program may go on without TLS.
 */
void inbox_give_back(struct inbox *in);
/* What inbox_record() gave is no longer needed, nor is it in the way. */
void inbox_rest(struct inbox *in);

/* Bytes that have been taken out of the socket: the start of a record, or more. */
static inline size_t inbox_has(const struct inbox *in)
{
	size_t len = in->end - in->start;

	return len > in->owed ? len - in->owed : 0;
}

#endif
