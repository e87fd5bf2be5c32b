/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/progress.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/mem.h"
#include "client/text.h"

/* Often enough to look alive, seldom enough to be read. */
#define DRAW_EVERY_MS 200
/* The rate is that of the last seconds: this many samples, one each time the line is drawn. */
#define SAMPLES_COUNT 25
/* A shorter bar tells nothing. */
#define BAR_CHARS_MIN 10
#define BAR_CHARS_MAX 40
#define COLUMNS_DEFAULT 80

static void add_bar(struct buf *out, double share, size_t chars)
{
    const size_t full = (size_t)(share * (double)chars);
    buf_add_byte(out, '[');
    for (size_t i = 0; i < chars; i++) {
        buf_add_byte(out, i < full ? '=' : i == full ? '>' : ' ');
    }
    buf_add_byte(out, ']');
}

void progress_format(const struct progress_figures *figures, size_t columns, struct buf *out)
{
    CLEANUP_BUF struct buf words = BUF_INIT;
    const uint64_t done = figures->done_bytes;
    const uint64_t total = figures->total_bytes;
    const bool has_total = total != PROGRESS_TOTAL_UNKNOWN && total > 0;
    double share = 0;
    if (has_total) {
        share = done < total ? (double)done / (double)total : 1;
        buf_add_format(&words, "%3u%%  ", (unsigned)(share * 100));
    }
    text_add_size(&words, done);
    if (has_total) {
        buf_add_string(&words, " of ");
        text_add_size(&words, total);
    }
    buf_add_string(&words, "  ");
    text_add_size(&words, figures->bytes_per_second);
    buf_add_string(&words, "/s");
    if (has_total && done < total && figures->bytes_per_second > 0) {
        buf_add_string(&words, "  ");
        text_add_duration(&words, (total - done) / figures->bytes_per_second);
        buf_add_string(&words, " left");
    }
    if (figures->note && *figures->note) {
        buf_add_format(&words, "  %s", figures->note);
    }
    /* Brackets, two blanks, and the last column, which some terminals wrap behind. */
    const size_t taken = words.size + 5;
    if (has_total && columns >= taken + BAR_CHARS_MIN) {
        const size_t room = columns - taken;
        add_bar(out, share, room < BAR_CHARS_MAX ? room : BAR_CHARS_MAX);
        buf_add_string(out, "  ");
    }
    buf_add(out, BYTES(words.data, words.size < columns ? words.size : columns));
}

struct sample {
    uint64_t at_ms;
    uint64_t done_bytes;
};

struct progress {
    bool is_shown;
    pthread_mutex_t lock; /* over all below */
    uint64_t done_bytes;
    uint64_t total_bytes;
    uint64_t drawn_ms;
    bool is_paused;
    char note[PROGRESS_NOTE_BYTES];
    struct sample samples[SAMPLES_COUNT]; /* a ring */
    size_t samples_count;
};

struct progress *progress_new(bool is_wanted)
{
    struct progress *progress = mem_alloc(sizeof *progress);
    progress->is_shown = is_wanted && isatty(STDERR_FILENO);
    pthread_mutex_init(&progress->lock, NULL);
    progress->total_bytes = PROGRESS_TOTAL_UNKNOWN;
    progress->drawn_ms = clock_monotonic_ms(clock_real());
    progress->samples[0] = (struct sample){.at_ms = progress->drawn_ms};
    progress->samples_count = 1;
    return progress;
}

static void wipe(const struct progress *progress)
{
    if (progress->is_shown) {
        fputs("\r\x1b[K", stderr);
    }
}

void progress_free(struct progress *progress)
{
    if (!progress) {
        return;
    }
    wipe(progress);
    pthread_mutex_destroy(&progress->lock);
    free(progress);
}

bool progress_is_shown(const struct progress *progress)
{
    return progress->is_shown;
}

void progress_set_total(struct progress *progress, uint64_t total_bytes)
{
    pthread_mutex_lock(&progress->lock);
    progress->total_bytes = total_bytes;
    pthread_mutex_unlock(&progress->lock);
}

static uint64_t rate(struct progress *progress, uint64_t now_ms)
{
    const size_t oldest =
        progress->samples_count < SAMPLES_COUNT ? 0 : progress->samples_count % SAMPLES_COUNT;
    const struct sample first = progress->samples[oldest];
    progress->samples[progress->samples_count++ % SAMPLES_COUNT] =
        (struct sample){.at_ms = now_ms, .done_bytes = progress->done_bytes};
    const uint64_t took_ms = now_ms > first.at_ms ? now_ms - first.at_ms : 1;
    return (uint64_t)((double)(progress->done_bytes - first.done_bytes) * 1000 / (double)took_ms);
}

static size_t terminal_columns(void)
{
    struct winsize size;
    return ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0 ? size.ws_col
                                                                           : COLUMNS_DEFAULT;
}

static void draw(struct progress *progress, uint64_t now_ms)
{
    const struct progress_figures figures = {
        .done_bytes = progress->done_bytes,
        .total_bytes = progress->total_bytes,
        .bytes_per_second = rate(progress, now_ms),
        .note = progress->note,
    };
    CLEANUP_BUF struct buf line = BUF_INIT;
    buf_add_byte(&line, '\r');
    progress_format(&figures, terminal_columns(), &line);
    buf_add_string(&line, "\x1b[K");
    fputs(buf_string(&line), stderr);
    fflush(stderr);
    progress->drawn_ms = now_ms;
}

void progress_set_note(struct progress *progress, const char *note)
{
    if (!progress->is_shown) {
        return;
    }
    pthread_mutex_lock(&progress->lock);
    snprintf(progress->note, sizeof progress->note, "%s", note);
    if (!progress->is_paused) {
        draw(progress, clock_monotonic_ms(clock_real()));
    }
    pthread_mutex_unlock(&progress->lock);
}

void progress_add(struct progress *progress, uint64_t bytes)
{
    if (!progress->is_shown) {
        return;
    }
    pthread_mutex_lock(&progress->lock);
    progress->done_bytes += bytes;
    progress->is_paused = false;
    const uint64_t now_ms = clock_monotonic_ms(clock_real());
    if (now_ms >= progress->drawn_ms + DRAW_EVERY_MS) {
        draw(progress, now_ms);
    }
    pthread_mutex_unlock(&progress->lock);
}

void progress_arrived(void *progress, size_t bytes)
{
    progress_add(progress, bytes);
}

/* So much of `text` as takes `columns`: characters of UTF-8, each taken for one wide. */
static size_t cut_bytes(const char *text, size_t columns)
{
    size_t bytes = 0;
    for (size_t taken = 0; text[bytes]; bytes++) {
        const bool is_first = ((uint8_t)text[bytes] & 0xc0u) != 0x80u;
        if (is_first && taken++ == columns) {
            break;
        }
    }
    return bytes;
}

void progress_show_text(struct progress *progress, const char *text)
{
    if (!progress->is_shown) {
        return;
    }
    pthread_mutex_lock(&progress->lock);
    /* Some terminals wrap behind the last column. */
    fprintf(stderr, "\r%.*s\x1b[K", (int)cut_bytes(text, terminal_columns() - 1), text);
    fflush(stderr);
    pthread_mutex_unlock(&progress->lock);
}

void progress_pause(struct progress *progress)
{
    pthread_mutex_lock(&progress->lock);
    wipe(progress);
    progress->is_paused = true;
    pthread_mutex_unlock(&progress->lock);
}
