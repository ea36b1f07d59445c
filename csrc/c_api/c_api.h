/* The functions that prediction needs, for C and every language that can call C: the library
 * sensorseq/_core, which depends on neither Python nor torch.
 *
 * Arrays are dense and row-major. Letters: N windows, T timesteps, C channels, H hidden size, D
 * directions, K classes, P width of the pooled vector (D*H, for meanmax 2*D*H). A real is a float
 * if real_bytes is 4, and a double if it is 8. `lengths` (N), each in 0..T, may be null, which
 * means that all lengths are T.
 *
 * A function that returns int32_t returns SENSORSEQ_OK or the kind of error, and sensorseq_error
 * then describes the error in a sentence. No function throws. Calls on different objects may run at
 * the same time, and so may calls of sensorseq_lstm_forward on one layer. Counts and shapes are
 * checked, but pointers are trusted. */
#pragma once

#include <stdint.h>

#define SENSORSEQ_EXPORT __attribute__((visibility("default")))

#ifdef __cplusplus
extern "C" {
#endif

enum {
  SENSORSEQ_OK = 0,
  SENSORSEQ_BAD_VALUE = 1,    /* always a mistake of the caller */
  SENSORSEQ_BAD_ARGUMENT = 2, /* an unsupported setting */
  SENSORSEQ_BAD_ENVIRONMENT = 3,
  SENSORSEQ_NO_MEMORY = 4,
  SENSORSEQ_OTHER_ISA = 5, /* the weights are arranged for an instruction set that is not in use */
  SENSORSEQ_FAILED = 6
};

/* The sentence that describes this thread's last error. */
SENSORSEQ_EXPORT const char* sensorseq_error(void);

/* The instruction set in use: the fastest on this processor, or the one that SENSORSEQ_CPU_ISA
 * forces. */
SENSORSEQ_EXPORT int32_t sensorseq_cpu_isa(const char** name);

/* ---- One LSTM layer, optionally with pooling and a linear head; see lstm_linear.h. ---- */

enum {
  SENSORSEQ_POOLING_NONE = 0, /* there is then no head */
  SENSORSEQ_POOLING_LAST = 1,
  SENSORSEQ_POOLING_MEAN = 2,
  SENSORSEQ_POOLING_MAX = 3,
  SENSORSEQ_POOLING_MEANMAX = 4
};

typedef struct {
  int32_t real_bytes, pooling;
  int64_t n_channels, hidden_size, n_directions, n_classes;
  const void* weight_ih;  /* (D, 4H, C)  gates i, f, g, o */
  const void* weight_hh;  /* (D, 4H, H) */
  const void* bias;       /* (D, 4H)     b_ih + b_hh */
  const void* weight_out; /* (K, P)      null without a head */
  const void* bias_out;   /* (K)         null without a head */
} sensorseq_lstm_weights;

/* A layer keeps its own copy of the weights, arranged for the instruction set in use. */
typedef struct sensorseq_lstm sensorseq_lstm;
SENSORSEQ_EXPORT int32_t sensorseq_lstm_make(const sensorseq_lstm_weights* weights,
                                             sensorseq_lstm** layer);
SENSORSEQ_EXPORT void sensorseq_lstm_free(sensorseq_lstm* layer);

/* x (N, T, C). `hidden` (N, T, D*H), zero beyond lengths, and `logits` (N, K) are written, each
 * unless it is null. h and c (N, D, H) contain the initial state and receive the state after the
 * last step; either may be null, and is then initially zero. The results have the same bits as
 * those of the torch operators for any n_threads. */
SENSORSEQ_EXPORT int32_t sensorseq_lstm_forward(const sensorseq_lstm* layer, const void* x,
                                                const int64_t* lengths, int64_t n_windows,
                                                int64_t n_timesteps, int64_t n_threads, void* h,
                                                void* c, void* hidden, void* logits);

/* ---- Filters for signals that arrive in pieces; see signal/resample.h, moving.h and sections.h.
 * Calls on one filter must not overlap. ---- */

typedef struct sensorseq_filter sensorseq_filter;

/* `edge`: mirror, hold or odd. If `delay` is null, the delay is the center of the taps. */
SENSORSEQ_EXPORT int32_t sensorseq_polyphase_make(const double* taps, int64_t n_taps, int64_t up,
                                                  int64_t down, int64_t n_channels,
                                                  const char* edge, const int64_t* delay,
                                                  sensorseq_filter** filter);
SENSORSEQ_EXPORT int32_t sensorseq_table_make(const double* taps, int64_t n_taps, int64_t n_phases,
                                              double ratio, int64_t n_channels, const char* edge,
                                              sensorseq_filter** filter);
SENSORSEQ_EXPORT int32_t sensorseq_moving_make(const char* statistic, int64_t window_samples,
                                               int64_t n_channels, int64_t ahead_samples,
                                               sensorseq_filter** filter);
/* sections (n, 6) */
SENSORSEQ_EXPORT int32_t sensorseq_sections_make(const double* sections, int64_t n,
                                                 int64_t n_channels, sensorseq_filter** filter);
SENSORSEQ_EXPORT void sensorseq_filter_free(sensorseq_filter* filter);

/* The number of rows that sensorseq_filter_push writes for n_samples. If is_last, the number
 * includes the rows up to the end of the signal. Afterwards, a resampling filter begins another
 * signal, and a moving statistic accepts no more samples. */
SENSORSEQ_EXPORT int32_t sensorseq_filter_rows(sensorseq_filter* filter, int64_t n_samples,
                                               int32_t is_last, int64_t* rows);
/* x (n_samples, C), which may be null if n_samples is 0; y (rows, C). Only resampling accepts
 * floats. */
SENSORSEQ_EXPORT int32_t sensorseq_filter_push(sensorseq_filter* filter, int32_t real_bytes,
                                               const void* x, int64_t n_samples, int32_t is_last,
                                               void* y);
SENSORSEQ_EXPORT int32_t sensorseq_filter_reset(sensorseq_filter* filter);
/* How far an output looks ahead, in input samples, and the instruction set in use. Only resampling
 * filters have several instruction sets; for other filters, the name is empty. */
SENSORSEQ_EXPORT double sensorseq_filter_latency(const sensorseq_filter* filter);
SENSORSEQ_EXPORT const char* sensorseq_filter_isa(const sensorseq_filter* filter);

/* ---- Windows; see signal/window.h and random_convolutions.h. ---- */

/* Copies windows of values (S, C) to out (N, T, C). If center (C) and scale (C) are given, writes
 * (value - center) / scale, or value * scale + center if `inverse`. Writes to `given` and
 * `overflown` the positions of the first values that are not finite before and after scaling, or
 * -1. */
SENSORSEQ_EXPORT int32_t sensorseq_map_windows(int32_t real_bytes, int32_t out_bytes,
                                               int64_t n_samples, int64_t n_windows,
                                               int64_t n_timesteps, int64_t n_channels,
                                               const void* values, const int64_t* starts,
                                               const int64_t* lengths, const double* center,
                                               const double* scale, int32_t inverse, void* out,
                                               int64_t* given, int64_t* overflown);

typedef struct {
  int64_t n_dilations, n_channels, n_channel_indices, n_biases;
  const int32_t *dilations, *features_per_dilation, *channel_counts, *channel_indices;
  const float* biases;
} sensorseq_convolutions;

SENSORSEQ_EXPORT int32_t sensorseq_check_convolutions(const sensorseq_convolutions* plan);
/* x (N, T, C); out (N, n_biases). `bad`: position of the first value that is not finite, or -1. */
SENSORSEQ_EXPORT int32_t sensorseq_share_above_biases(const sensorseq_convolutions* plan,
                                                      const float* x, const int64_t* lengths,
                                                      int64_t n_windows, int64_t n_timesteps,
                                                      int64_t n_threads, float* out, int64_t* bad);

typedef struct {
  int64_t n_rounds, n_channels, n_channel_indices;
  const int32_t *dilations, *is_difference, *kernels, *channel_counts, *channel_indices;
} sensorseq_competition;

SENSORSEQ_EXPORT int32_t sensorseq_check_competition(const sensorseq_competition* plan);
/* x (N, T, C); out (N, n_rounds * 168); `bad`: as in sensorseq_share_above_biases. */
SENSORSEQ_EXPORT int32_t sensorseq_share_wins(const sensorseq_competition* plan, const float* x,
                                              const int64_t* lengths, int64_t n_windows,
                                              int64_t n_timesteps, int64_t n_threads, float* out,
                                              int64_t* bad);

#ifdef __cplusplus
}
#endif
