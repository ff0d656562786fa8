/* One client process in C: plain sockets and epoll, so that the server is what is measured.

   client echo PORT SOCKETS SECONDS HANDSHAKE REQUEST ANSWER
   client connects PORT SOCKETS SECONDS HANDSHAKE
   client storm PORT SOCKETS SECONDS HANDSHAKE KEYS PLACE

   HANDSHAKE, REQUEST and ANSWER are numbers of bytes. The handshake and the request follow on standard input,
   then a line that says "go" once the client has said "ready". It prints what it reached per second: messages
   (every socket sends the request again when it has the whole answer to the last) or connections.

   A storm opens all sockets at once and prints how many were accepted, how many were refused, and the seconds
   until the last was accepted. The sockets use KEYS session keys in turn, which follow the handshake on
   standard input and are written into it at PLACE. */

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define EVENTS 256
#define HEAD 4096
#define KEY 32

static char buffer[1 << 20];
static struct sockaddr_in address;
static char *handshake, *request;
static size_t handshake_size, request_size;

static void fail(const char *what) {
    perror(what);
    exit(1);
}

static void *allocate(size_t count, size_t size) {
    void *found = calloc(count ? count : 1, size);
    if (!found) fail("calloc");
    return found;
}

static double now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec + time.tv_nsec / 1e9;
}

static char *take(size_t size) {
    char *data = allocate(size, 1);
    if (fread(data, 1, size, stdin) != size) fail("standard input");
    return data;
}

static void send_all(int client, const char *data, size_t size) {
    for (size_t sent = 0; sent < size;) {
        ssize_t more = send(client, data + sent, size - sent, MSG_NOSIGNAL);
        if (more <= 0) fail("send");
        sent += more;
    }
}

/* A socket that has sent its handshake, and then one that has been accepted. */
static int begin(void) {
    int on = 1, client = socket(AF_INET, SOCK_STREAM, 0);
    if (client < 0) fail("socket");
    setsockopt(client, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    if (connect(client, (struct sockaddr *)&address, sizeof address)) fail("connect");
    send_all(client, handshake, handshake_size);
    return client;
}

static void finish(int client) {
    char head[HEAD + 1];
    size_t length = 0;
    do {
        ssize_t more = recv(client, head + length, HEAD - length, 0);
        if (more <= 0) fail("no answer to the handshake");
        length += more;
        head[length] = 0;
    } while (!strstr(head, "\r\n\r\n") && length < HEAD);
    if (strncmp(head, "HTTP/1.1 101", 12)) {
        fprintf(stderr, "refused: %s\n", head);
        exit(1);
    }
}

static void wait_for_go(void) {
    puts("ready");
    fflush(stdout);
    if (!fgets(buffer, sizeof buffer, stdin)) fail("standard input");
}

static double echo(int sockets, double seconds, size_t answer) {
    int *clients = allocate(sockets, sizeof *clients), poll = epoll_create1(0);
    size_t *missing = allocate(sockets, sizeof *missing), count = 0;
    struct epoll_event events[EVENTS];
    if (poll < 0) fail("epoll_create1");
    for (int each = 0; each < sockets; each++) {
        struct epoll_event event = {.events = EPOLLIN, .data.u32 = each};
        clients[each] = begin();
        finish(clients[each]);
        missing[each] = answer;
        if (epoll_ctl(poll, EPOLL_CTL_ADD, clients[each], &event)) fail("epoll_ctl");
    }
    wait_for_go();
    double start = now(), end = start;
    for (int each = 0; each < sockets; each++) send_all(clients[each], request, request_size);
    while ((end = now()) < start + seconds) {
        int ready = epoll_wait(poll, events, EVENTS, 1000);
        for (int index = 0; index < ready; index++) {
            int each = events[index].data.u32;
            ssize_t got = recv(clients[each], buffer, sizeof buffer, 0);
            if (got <= 0 || (size_t)got > missing[each]) fail("an answer that was not asked for");
            missing[each] -= got;
            if (missing[each]) continue;
            missing[each] = answer;
            send_all(clients[each], request, request_size);
            count++;
        }
    }
    return count / (end - start);
}

static double connects(int sockets, double seconds) {
    int *clients = allocate(sockets, sizeof *clients);
    size_t count = 0;
    wait_for_go();
    double start = now(), end = start;
    while ((end = now()) < start + seconds) {
        for (int each = 0; each < sockets; each++) clients[each] = begin();
        for (int each = 0; each < sockets; each++) finish(clients[each]);
        for (int each = 0; each < sockets; each++) close(clients[each]);
        count += sockets;
    }
    return count / (end - start);
}

static void allow_many_files(void) {
    struct rlimit files;
    if (getrlimit(RLIMIT_NOFILE, &files)) fail("getrlimit");
    files.rlim_cur = files.rlim_max;
    if (setrlimit(RLIMIT_NOFILE, &files)) fail("setrlimit");
}

static void storm(int sockets, double seconds, size_t keys, size_t place) {
    int *clients = allocate(sockets, sizeof *clients), poll = epoll_create1(0), open = sockets;
    char *names = take(keys * KEY);
    size_t accepted = 0, refused = 0;
    struct epoll_event events[EVENTS];
    if (poll < 0) fail("epoll_create1");
    allow_many_files();
    wait_for_go();
    double start = now(), last = start;
    for (int each = 0; each < sockets; each++) {
        struct epoll_event event = {.events = EPOLLOUT, .data.u32 = each};
        clients[each] = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
        if (clients[each] < 0) fail("socket");
        if (connect(clients[each], (struct sockaddr *)&address, sizeof address) && errno != EINPROGRESS)
            fail("connect");
        if (epoll_ctl(poll, EPOLL_CTL_ADD, clients[each], &event)) fail("epoll_ctl");
    }
    while (open && now() < start + seconds) {
        int ready = epoll_wait(poll, events, EVENTS, 100);
        for (int index = 0; index < ready; index++) {
            int each = events[index].data.u32;
            if (events[index].events == EPOLLOUT) {
                struct epoll_event event = {.events = EPOLLIN, .data.u32 = each};
                if (keys) memcpy(handshake + place, names + each % keys * KEY, KEY);
                send_all(clients[each], handshake, handshake_size);
                if (epoll_ctl(poll, EPOLL_CTL_MOD, clients[each], &event)) fail("epoll_ctl");
                continue;
            }
            /* The first bytes of an answer are enough, and later ones are not looked at. */
            ssize_t got = recv(clients[each], buffer, sizeof buffer, 0);
            if (got < 0 && errno == EAGAIN) continue;
            if (got >= 12 && !strncmp(buffer, "HTTP/1.1 101", 12)) {
                accepted++;
                last = now();
            } else {
                refused++;
            }
            if (epoll_ctl(poll, EPOLL_CTL_DEL, clients[each], NULL)) fail("epoll_ctl");
            open--;
        }
    }
    printf("%zu %zu %f\n", accepted, refused, last - start);
}

int main(int count, char **arguments) {
    if (count < 6) return 2;
    int is_echo = !strcmp(arguments[1], "echo"), is_storm = !strcmp(arguments[1], "storm");
    int sockets = atoi(arguments[3]);
    if ((is_echo || is_storm) && count < 8) return 2;
    double seconds = atof(arguments[4]);
    address.sin_family = AF_INET;
    address.sin_port = htons(atoi(arguments[2]));
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    setvbuf(stdin, NULL, _IONBF, 0);
    handshake_size = strtoul(arguments[5], NULL, 10);
    handshake = take(handshake_size);
    if (is_storm) {
        storm(sockets, seconds, strtoul(arguments[6], NULL, 10), strtoul(arguments[7], NULL, 10));
        return 0;
    }
    if (is_echo) {
        request_size = strtoul(arguments[6], NULL, 10);
        request = take(request_size);
    }
    printf("%f\n", is_echo ? echo(sockets, seconds, strtoul(arguments[7], NULL, 10)) : connects(sockets, seconds));
    return 0;
}
