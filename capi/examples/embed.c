/* A server inside the poll loop of a C program. It sends a task to the first host that comes online,
 * and ends when that host is offline again.
 *
 *     cc embed.c -I../include ../../target/debug/libanthill_c.a -lpthread -ldl -lm && ./a.out
 */
#include <poll.h>
#include <stdio.h>
#include <string.h>

#include "anthill.h"

int main(void) {
    anthill_server *server = anthill_bind(NULL);
    if (server == NULL) {
        fprintf(stderr, "%s\n", anthill_bind_error());
        return 1;
    }
    printf("%s\n", anthill_ready(server));
    fflush(stdout);
    struct pollfd watched = {.fd = anthill_fd(server), .events = POLLIN};
    int turned = 1;
    while (turned == 1) {
        /* Other descriptors of the program belong into the same poll. */
        poll(&watched, 1, anthill_next_turn_ms(server));
        turned = anthill_turn(server, 0);
        const char *event;
        while ((event = anthill_poll_event(server)) != NULL) {
            printf("%s\n", event);
            if (strstr(event, "\"event\":\"online\"") != NULL) {
                const char *commands[] = {"uptime", "df -h /"};
                const double priorities[] = {2, 1};
                int hosts = anthill_dispatch(server, "AC131", commands, priorities, 2, NULL, 0);
                if (hosts < 0) {
                    fprintf(stderr, "%s\n", anthill_error(server));
                }
                printf("sent to %d, web-1 alive: %d\n", hosts, anthill_alive(server, "web-1"));
            } else if (strstr(event, "\"event\":\"offline\"") != NULL) {
                anthill_shutdown(server);
            }
            fflush(stdout);
        }
    }
    if (turned < 0) {
        fprintf(stderr, "%s\n", anthill_error(server));
    }
    anthill_close(server);
    return turned == 0 ? 0 : 1;
}
