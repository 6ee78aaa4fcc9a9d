/* One loop of system calls, timed from inside: bench LOOP DIR COUNT prints
   nanoseconds per operation. Used by scripts/bench only. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

static char path[4096], other[4096], block[1 << 20];

static void must(int good, const char *what) {
    if (!good) { fprintf(stderr, "bench: %s: %s\n", what, strerror(errno)); exit(1); }
}
static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1e9 + t.tv_nsec;
}
static void put(const char *dir, const char *name, size_t size) {
    snprintf(path, sizeof path, "%s/%s", dir, name);
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0644);
    must(fd >= 0, path);
    for (size_t left = size; left;) {
        ssize_t n = write(fd, block, left < sizeof block ? left : sizeof block);
        must(n > 0, "write");
        left -= n;
    }
    close(fd);
}

int main(int argc, char **argv) {
    must(argc == 4, "usage: bench LOOP DIR COUNT");
    const char *loop = argv[1], *dir = argv[2];
    long count = atol(argv[3]);
    unsigned seed = 1;
    for (size_t i = 0; i < sizeof block; i++) block[i] = (char)rand_r(&seed);
    put(dir, "loop.dat", !strcmp(loop, "random-write") || !strncmp(loop, "read", 4) ? 64 << 20 : 4096);
    int fd = open(path, O_RDWR | (!strcmp(loop, "append") ? O_APPEND : 0));
    must(fd >= 0, path);
    snprintf(other, sizeof other, "%s/loop.dat.tmp", dir);
    if (!strncmp(loop, "read", 4)) for (int i = 0; i < 64; i++) must(pread(fd, block, 1 << 20, (off_t)i << 20) > 0, "warm");
    double begin = now();
    for (long i = 0; i < count; i++) {
        if (!strcmp(loop, "open-read-close")) {
            int f = open(path, O_RDONLY);
            must(f >= 0 && read(f, block, 4096) == 4096, "read");
            close(f);
        } else if (!strcmp(loop, "read-seq")) {
            must(pread(fd, block, 131072, (off_t)(i % 512) * 131072) == 131072, "read");
        } else if (!strcmp(loop, "read-random")) {
            must(pread(fd, block, 4096, (off_t)(rand_r(&seed) % 16384) * 4096) == 4096, "read");
        } else if (!strcmp(loop, "append")) {
            must(write(fd, block, 100) == 100, "append");
        } else if (!strcmp(loop, "rewrite")) {
            int f = open(path, O_WRONLY | O_TRUNC);
            must(f >= 0 && write(f, block, 4096) == 4096, "rewrite");
            close(f);
        } else if (!strcmp(loop, "temp-rename")) {
            int f = open(other, O_WRONLY | O_CREAT | O_EXCL, 0644);
            must(f >= 0 && write(f, block, 4096) == 4096, "temp");
            close(f);
            must(rename(other, path) == 0, "rename");
        } else if (!strcmp(loop, "seq-write")) {
            must(pwrite(fd, block, 1 << 20, (off_t)(i % 256) << 20) == 1 << 20, "write");
        } else if (!strcmp(loop, "random-write")) {
            must(pwrite(fd, block, 4096, (off_t)(rand_r(&seed) % 16384) * 4096) == 4096, "write");
        } else if (!strcmp(loop, "create")) {
            snprintf(other, sizeof other, "%s/new-%ld", dir, i);
            int f = open(other, O_WRONLY | O_CREAT | O_EXCL, 0644);
            must(f >= 0 && write(f, block, 4096) == 4096, "create");
            close(f);
        } else {
            must(0, "unknown loop");
        }
    }
    printf("%.0f\n", (now() - begin) / count);
    close(fd);
    if (!strcmp(loop, "create")) for (long i = 0; i < count; i++) {
        snprintf(other, sizeof other, "%s/new-%ld", dir, i);
        unlink(other);
    }
    unlink(path);
    return 0;
}
