/* The least that a command must do: read every byte of its inputs, write outputs of the size of the
 * first input, and have them on disk, with nothing else.
 *
 *   limit [-j THREADS] [-o OUTPUT]... INPUT...     two threads by default
 *
 * Inputs are mapped and every word of them is read; pieces of the outputs are written from memory
 * that stays in cache, to space that was reserved before.
 */

#define _GNU_SOURCE
#include <fcntl.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

enum { PIECE = 1 << 18, MOST = 1024 };

struct input {
    const char *start;
    size_t size;
};

static struct input inputs[MOST];
static int outputs[MOST];
static int input_count, output_count;
static size_t thread_count = 2, longest;
static uint64_t seen[MOST];

static void fail(const char *what)
{
    perror(what);
    exit(1);
}

static uint64_t sum_of(const char *from, size_t length)
{
    uint64_t sum = 0, word;
    for (size_t at = 0; at + sizeof word <= length; at += sizeof word) {
        __builtin_memcpy(&word, from + at, sizeof word);
        sum += word;
    }
    return sum;
}

static void write_piece(int output, const char *piece, size_t length, size_t start)
{
    for (size_t done = 0; done < length;) {
        ssize_t written = pwrite(output, piece + done, length - done, (off_t)(start + done));
        if (written < 0)
            fail("write");
        done += (size_t)written;
    }
}

/* the bytes of a piece at `start` that a file of `size` has */
static size_t length_of(size_t size, size_t start)
{
    if (start >= size)
        return 0;
    return size - start < PIECE ? size - start : PIECE;
}

static void *take_turns(void *argument)
{
    size_t thread = (size_t)argument;
    char *piece = calloc(1, PIECE);
    if (!piece)
        fail("memory");
    for (size_t start = thread * PIECE; start < longest; start += thread_count * PIECE) {
        for (int each = 0; each < input_count; each++)
            seen[thread] += sum_of(inputs[each].start + start, length_of(inputs[each].size, start));
        for (int each = 0; each < output_count; each++)
            write_piece(outputs[each], piece, length_of(inputs[0].size, start), start);
    }
    free(piece);
    return NULL;
}

static void open_input(const char *path)
{
    struct stat state;
    int file = open(path, O_RDONLY);
    if (file < 0 || fstat(file, &state) < 0)
        fail(path);
    size_t size = (size_t)state.st_size;
    const char *start = mmap(NULL, size, PROT_READ, MAP_SHARED, file, 0);
    if (start == MAP_FAILED)
        fail(path);
    close(file);
    inputs[input_count++] = (struct input){start, size};
    longest = size > longest ? size : longest;
}

static void open_output(const char *path)
{
    int file = open(path, O_RDWR | O_CREAT | O_TRUNC, 0644);
    if (file < 0 || posix_fallocate(file, 0, (off_t)inputs[0].size) != 0)
        fail(path);
    outputs[output_count++] = file;
}

static int usage(void)
{
    fprintf(stderr, "usage: limit [-j THREADS] [-o OUTPUT]... INPUT...\n");
    return 2;
}

int main(int count, char **words)
{
    pthread_t threads[MOST];
    const char *paths[MOST];
    int named = 0, option;
    uint64_t sum = 0;
    while ((option = getopt(count, words, "j:o:")) != -1) {
        if (option == 'j')
            thread_count = (size_t)atoi(optarg);
        else if (option == 'o' && named < MOST)
            paths[named++] = optarg;
        else
            return usage();
    }
    if (optind == count || count > MOST || thread_count < 1 || thread_count > MOST)
        return usage();
    for (; optind < count; optind++)
        open_input(words[optind]);
    for (int each = 0; each < named; each++)
        open_output(paths[each]);
    for (size_t each = 0; each < thread_count; each++)
        if (pthread_create(&threads[each], NULL, take_turns, (void *)each) != 0)
            fail("thread");
    for (size_t each = 0; each < thread_count; each++)
        pthread_join(threads[each], NULL);
    for (int each = 0; each < output_count; each++)
        if (fsync(outputs[each]) < 0)
            fail("sync");
    /* so that no reading is left out */
    for (size_t each = 0; each < thread_count; each++)
        sum += seen[each];
    printf("%llx\n", (unsigned long long)sum);
    return 0;
}
