/* ResNet-32 of the zoo for one image beside sixteen, a pair in each lane of an AVX-512 register.

   The same equations as the package's, written by hand for one network of 28 x 28 images: a pass
   computes a ReLU, sums it over 3x3 windows and adds the residual, row by row, so that a map is read
   and written once. limit.py compiles it. */

#include <immintrin.h>

#ifndef __AVX512F__
#error "no AVX-512"
#endif

#define SIDE 28
#define LANES 16
#define BLOCKS 5
#define POSITIONS (11 * 784 + 10 * 196 + 10 * 49)

typedef __m512 vec;

/* Statistics of all ReLUs at all positions: the roots of the variances, and their inverses. Those of
   the row are numbers, those of the columns have a lane each. */
typedef struct {
    const float *row;
    const vec *columns;
} Statistics;

static inline vec all(float a) { return _mm512_set1_ps(a); }

/* max(c, 0) / 2 + sqrt(q1 q2) g(|rho|), g(t) = sqrt(1 - t) times a polynomial. */
static inline vec relu(vec c, Statistics s, long n) {
    vec size = _mm512_abs_ps(c);
    vec t = size * (all(s.row[2 * n + 1]) * s.columns[2 * n + 1]);
    vec g = _mm512_fmadd_ps(all(-0.000275673236f), t, all(0.00133766986f));
    g = _mm512_fmadd_ps(g, t, all(-0.00401988251f));
    g = _mm512_fmadd_ps(g, t, all(0.0142225294f));
    g = _mm512_fmadd_ps(g, t, all(-0.170419919f));
    g = _mm512_fmadd_ps(g, t, all(0.159154914f));
    /* A root by its estimate and one step of Newton's: the instruction takes twice as long. */
    vec u = _mm512_max_ps(all(1) - t, all(1e-30f)), inverse = _mm512_rsqrt14_ps(u);
    vec root = u * inverse;
    root = _mm512_fmadd_ps(_mm512_fnmadd_ps(root, root, u), inverse * all(0.5f), root);
    vec scale = all(s.row[2 * n]) * s.columns[2 * n];
    return _mm512_fmadd_ps(root * g, scale, (c + size) * all(0.25f));
}

/* The mean of a ReLU over 3x3 windows, plus `residual` where there is one; padding is "same".
   kept: the ReLU itself at every stride-th position, where it is wanted. */
static void layer(const vec *in, vec *out, const vec *residual, vec *kept, long side, long stride,
                  Statistics s, long n) {
    vec row[SIDE + 2], sums[3][SIDE];
    long count = side / stride, before = stride == 1;
    row[0] = row[side + 1] = all(0);
    for (long o = 0; o < count; o++) sums[2][o] = all(0);
    for (long i = 0, done = 0; i <= side; i++) {
        vec *sum = sums[i % 3];
        if (i < side) {
            for (long j = 0; j < side; j++) row[j + 1] = relu(in[i * side + j], s, n + i * side + j);
            for (long o = 0; o < count; o++) {
                const vec *first = row + stride * o + 1 - before;
                sum[o] = first[0] + first[1] + first[2];
            }
            if (kept && i % stride == 0)
                for (long o = 0; o < count; o++) kept[i / stride * count + o] = row[stride * o + 1];
        } else {
            for (long o = 0; o < count; o++) sum[o] = all(0);
        }
        if (i == stride * done + 2 - before) {
            for (long o = 0; o < count; o++) {
                vec mean = (sums[0][o] + sums[1][o] + sums[2][o]) * all(1.0f / 9);
                out[done * count + o] = mean + (residual ? residual[done * count + o] : all(0));
            }
            done++;
        }
    }
}

/* The first convolution of the product of two images. */
static void first(const float *x1, const vec *x2, vec *out) {
    for (long i = 0; i < SIDE; i++)
        for (long j = 0; j < SIDE; j++) {
            vec sum = all(0);
            for (long a = i - (i > 0); a < i + 2 && a < SIDE; a++)
                for (long b = j - (j > 0); b < j + 2 && b < SIDE; b++)
                    sum += all(x1[a * SIDE + b]) * x2[a * SIDE + b];
            out[i * SIDE + j] = sum * all(1.0f / 9);
        }
}

/* The kernel of one image x1, [28 x 28], beside sixteen, [28 x 28, 16]: [16]. */
static vec kernel(const float *x1, const vec *x2, Statistics s) {
    static __thread vec x[SIDE * SIDE], y[SIDE * SIDE], kept[SIDE * SIDE];
    long n = 0, side = SIDE;
    first(x1, x2, x);
    for (long stage = 0; stage < 3; stage++)
        for (long block = 0; block < BLOCKS; block++) {
            long stride = block == 0 && stage > 0 ? 2 : 1;
            layer(x, y, 0, block == 0 ? kept : 0, side, stride, s, n);
            n += side * side;
            side /= stride;
            layer(y, x, block == 0 ? kept : x, 0, side, 1, s, n);
            n += side * side;
        }
    vec sum = all(0);
    for (long i = 0; i < side * side; i++) sum += relu(x[i], s, n + i);
    return sum * all(1.0f / (side * side));
}

long positions(void) { return POSITIONS; }

/* Kernels of `count` images, [count, 28 x 28], beside sixteen, [28 x 28, 16]: out, [count, 16].
   rows: their statistics, [count, positions, 2]; columns: those of the sixteen, [positions, 2, 16] */
void kernels(const float *x1, const float *rows, const vec *x2, const vec *columns, vec *out,
             long count) {
    for (long i = 0; i < count; i++) {
        Statistics s = {rows + i * POSITIONS * 2, columns};
        out[i] = kernel(x1 + i * SIDE * SIDE, x2, s);
    }
}
