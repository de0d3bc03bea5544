// Gram matrices of eight bursts, and what their eigenpairs say of the bursts.
#include "diffeo/small/burst_decomposition.hpp"

#include "diffeo/small/local_fit.hpp"

namespace diffeo {
namespace {

// Columns read at once where the Gram matrix is that of the members: 16 KiB for 32 members, half of a first-level
// cache.
constexpr Index kBlock = 8;

// Entries of the Gram matrix added up in registers at once are kTile^2.
#if defined(__AVX512F__)
constexpr Index kTile = 4;
#else
constexpr Index kTile = 2;
#endif

std::size_t at(Index i) { return static_cast<std::size_t>(i); }

/// gram(i, j) += sum_t z(t, i) z(t, j) for R rows and C columns; z (count, n), gram (n, n).
template <Index R, Index C>
void gram_tile(const Lanes* z, Index count, Index n, Index i, Index j, Lanes* gram) {
  Lanes sum[R][C];
  for (Index a = 0; a < R; ++a) {
    for (Index b = 0; b < C; ++b) sum[a][b] = gram[(i + a) * n + j + b];
  }
  for (Index t = 0; t < count; ++t) {
    const Lanes* row = z + t * n;
    for (Index a = 0; a < R; ++a) {
      for (Index b = 0; b < C; ++b) sum[a][b] += row[i + a] * row[j + b];
    }
  }
  for (Index a = 0; a < R; ++a) {
    for (Index b = 0; b < C; ++b) gram[(i + a) * n + j + b] = sum[a][b];
  }
}

/// The same for a strip of R rows, up to and including the diagonal.
template <Index R>
void gram_strip(const Lanes* z, Index count, Index n, Index i, Lanes* gram) {
  Index j = 0;
  for (; j + kTile <= i + R; j += kTile) gram_tile<R, kTile>(z, count, n, i, j, gram);
  for (; j < i + R; ++j) gram_tile<R, 1>(z, count, n, i, j, gram);
}

}  // namespace

BurstDecomposition::BurstDecomposition(Index burst_size, Index m, Index dim, double unit, double gain)
    : size_(burst_size), m_(m), dim_(dim), r_(std::min(burst_size, m)), unit_(unit), gain_(gain),
      members_(burst_size <= m), eigen_(r_), block_(at(members_ ? kBlock * burst_size : burst_size * m)),
      values_(at(r_)), vectors_(at(std::max(burst_size, m) * dim)), coefficients_(at(kLanes * burst_size * dim)),
      direction_(at(m)), members_of_(at(burst_size)) {}

/// block_ becomes measurements [first, first + count) without their mean, times `inverse`: (count, K) where the Gram
/// matrix is that of the members, (K, m) where it is that of the measurements.
void BurstDecomposition::read_centred(const LaneRows& bursts, Index first, Index count, const Lanes& inverse) {
  const double share = 1.0 / static_cast<double>(size_);
  // Entry (member k, measurement j) lies at k * member + j * measurement.
  const Index member = members_ ? 1 : count, measurement = members_ ? size_ : 1;
  for (Index k = 0; k < size_; ++k) {
    // The next columns lie too far apart for the processor to see them coming.
    for (const double* row : bursts.row) __builtin_prefetch(row + k * m_ + first + count);
    interleave(bursts, k * m_ + first, count, block_.data() + k * member, measurement);
  }
  for (Index j = 0; j < count; ++j) {
    Lanes* column = block_.data() + j * measurement;
    Lanes sum = 0.0;
    for (Index k = 0; k < size_; ++k) sum += column[k * member];
    const Lanes mean = sum * share;
    for (Index k = 0; k < size_; ++k) column[k * member] = (column[k * member] - mean) * inverse;
  }
}

void BurstDecomposition::accumulate_gram(const LaneRows& bursts, const Lanes& inverse) {
  Lanes* gram = eigen_.matrix();
  std::fill(gram, gram + r_ * r_, Lanes(0.0));
  const Index width = members_ ? kBlock : m_;
  for (Index first = 0; first < m_; first += width) {
    const Index columns = std::min(width, m_ - first), count = members_ ? columns : size_;
    read_centred(bursts, first, columns, inverse);
    Index i = 0;
    for (; i + kTile <= r_; i += kTile) gram_strip<kTile>(block_.data(), count, r_, i, gram);
    for (; i < r_; ++i) gram_strip<1>(block_.data(), count, r_, i, gram);
  }
}

/// The Gram matrix of the bursts times the returned power of two, which is 1 unless its squares would over- or
/// underflow.
Lanes BurstDecomposition::scaled_gram(const LaneRows& bursts) {
  accumulate_gram(bursts, 1.0);
  Lanes trace = 0.0;
  for (Index i = 0; i < r_; ++i) trace += eigen_.matrix()[i * r_ + i];
  const LaneMask usual = (trace > 1e-200) & (trace < 1e200);
  if (!(!usual).any()) return 1.0;
  Lanes sum = 0.0;
  const Index width = members_ ? kBlock : m_;
  for (Index first = 0; first < m_; first += width) {
    const Index columns = std::min(width, m_ - first);
    read_centred(bursts, first, columns, 1.0);
    for (Index e = 0; e < columns * size_; ++e) sum += LaneUnit::term(block_[at(e)]);
  }
  const Lanes scale = select(usual, 1.0, LaneUnit(sum).inverse);
  accumulate_gram(bursts, scale);
  return scale;
}

LaneMask BurstDecomposition::compute(const LaneRows& bursts, Index valid, double* singular_values, double* whitening) {
  const Lanes scale = scaled_gram(bursts);
  eigen_.compute(dim_);
  for (Index k = 0; k < r_; ++k) {
    const Lanes squared = eigen_.eigenvalues()[k];
    // Rounding leaves negative values where the rank falls short.
    values_[at(k)] = sqrt(select(squared < 0.0, 0.0, squared)) / scale * unit_;
  }
  deinterleave(values_.data(), r_, singular_values, r_, valid);
  if (dim_ == 0) return scale < 0.0;
  if (members_) {
    whiten_by_members(bursts, scale, valid, singular_values, whitening);
  } else {
    whiten_by_measurements(valid, whitening);
  }
  return values_[at(dim_ - 1)] < kGramFloor * values_[0];
}

/// U_k Sigma_k = Y^T v_k with v_k the eigenvectors of Y Y^T; the length of it is the better singular value.
void BurstDecomposition::whiten_by_members(const LaneRows& bursts, const Lanes& scale, Index valid, double* values,
                                           double* whitening) {
  const Lanes* v = eigen_.eigenvectors();
  for (Index c = 0; c < dim_; ++c) {
    // Y has no mean: made exact, this allows to subtract any member instead of the mean.
    Lanes sum = 0.0;
    for (Index k = 0; k < size_; ++k) sum += v[k * dim_ + c];
    const Lanes mean = sum * (1.0 / static_cast<double>(size_));
    for (Index k = 0; k < size_; ++k) vectors_[at(c * size_ + k)] = (v[k * dim_ + c] - mean) * scale;
  }
  const Index stride = size_ * dim_;
  deinterleave(vectors_.data(), stride, coefficients_.data(), stride, valid);
  for (Index l = 0; l < valid; ++l) {
    double* value = values + l * r_;
    for (Index k = 0; k < size_; ++k) members_of_[at(k)] = bursts.row[l] + k * m_;
    for (Index c = 0; c < dim_; ++c) {
      combine_rows(members_of_.data(), size_, m_, coefficients_.data() + l * stride + c * size_, direction_.data());
      double squared = 0.0;
      for (Index j = 0; j < m_; ++j) squared += direction_[at(j)] * direction_[at(j)];
      const double factor = squared > 0.0 ? gain_ / squared * scale[l] / unit_ : 0.0;
      double* w = whitening + l * m_ * dim_ + c;
      for (Index j = 0; j < m_; ++j) w[j * dim_] = squared > 0.0 ? direction_[at(j)] * factor : 0.0;
      value[c] = std::sqrt(squared) / scale[l] * unit_;
    }
    // Values of two kinds: nearly equal ones must not change their order.
    for (Index k = 1; k < r_; ++k) value[k] = value[k] > value[k - 1] ? value[k - 1] : value[k];
  }
}

/// U_k are the eigenvectors of Y^T Y.
void BurstDecomposition::whiten_by_measurements(Index valid, double* whitening) {
  for (Index c = 0; c < dim_; ++c) {
    const LaneMask positive = values_[at(c)] > 0.0;
    const Lanes factor = gain_ / values_[at(c)];
    for (Index j = 0; j < m_; ++j) {
      vectors_[at(j * dim_ + c)] = select(positive, eigen_.eigenvectors()[j * dim_ + c] * factor, 0.0);
    }
  }
  deinterleave(vectors_.data(), m_ * dim_, whitening, m_ * dim_, valid);
}

}  // namespace diffeo
