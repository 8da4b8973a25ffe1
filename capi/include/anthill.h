/* Anthill inside a C program. Link libanthill_c.a or libanthill_c.so:
 *
 *     cargo build --release -p anthill-capi
 *     cc program.c -Icapi/include target/release/libanthill_c.a -lpthread -ldl -lm
 *
 * A server belongs to the thread that calls its functions; no function may be called by two threads
 * at once. Texts are UTF-8. A function that fails returns -1 or NULL, and anthill_error() says why.
 */
#ifndef ANTHILL_H
#define ANTHILL_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct anthill_server anthill_server;

/* Version of the library, such as "0.1.0". */
const char *anthill_version(void);

/* Binds a server. `config` is the path of a configuration; NULL is ./config.json if it exists, else
 * the defaults. Returns NULL on failure, with the reason in anthill_bind_error(). */
anthill_server *anthill_bind(const char *config);
/* Why the last anthill_bind() of this thread failed; valid until the next one. */
const char *anthill_bind_error(void);

/* The ready line: addresses, store, number of connections. */
const char *anthill_ready(const anthill_server *server);

/* A descriptor that becomes readable when a turn has something to do. It may be watched by poll or
 * another epoll, together with the timeout of anthill_next_turn_ms(). */
int anthill_fd(const anthill_server *server);
/* Milliseconds after which a turn is due without an event; 0: at once; -1: none is. */
int anthill_next_turn_ms(const anthill_server *server);

/* Runs one turn: waits for at most `max_us` microseconds (0: not at all; negative: without a limit),
 * then works for a few milliseconds at most. Returns 1, 0 after the shutdown is complete, or -1. */
int anthill_turn(anthill_server *server, int64_t max_us);

/* Returns 1 if the host is online, 0 if not, -1 on failure. Turns the server meanwhile. */
int anthill_alive(anthill_server *server, const char *host);

/* Stores a task and sends it. `hosts` NULL means all that are online. Returns the number of hosts, or
 * -1. Turns the server meanwhile, for up to 20 s while the store does not answer. */
int anthill_dispatch(anthill_server *server, const char *key, const char *const *commands,
                     const double *priorities, size_t commands_count, const char *const *hosts,
                     size_t hosts_count);

/* Returns the next event as JSON, as in GET /v1/events, or NULL if there is none now. Valid until the
 * next call. Events count from anthill_bind() on; beyond 4096 unread ones further ones are lost. */
const char *anthill_poll_event(anthill_server *server);

/* Why the last function of this server failed; valid until the next call. */
const char *anthill_error(const anthill_server *server);

/* Begins the shutdown: turn until 0 is returned. */
void anthill_shutdown(anthill_server *server);
/* Releases the server. Waits up to 5 s for outstanding writes. NULL is allowed. */
void anthill_close(anthill_server *server);

#ifdef __cplusplus
}
#endif
#endif
