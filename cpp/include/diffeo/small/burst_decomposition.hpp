// Singular values and whitening of bursts through their Gram matrices, eight samples at a time.
#pragma once

#include <vector>

#include "diffeo/small/decomposition.hpp"
#include "diffeo/small/eigen.hpp"

namespace diffeo {

/// Singular values of the centred bursts Y_i (K, m), and whitening gain U_d / Sigma_d of their transposes.
///
/// They come from the smaller of the Gram matrices Y Y^T (K, K) and Y^T Y (m, m), which costs r^2 max(K, m) operations
/// (r the smaller side) and one decomposition of size r. Squaring limits the accuracy: a singular value sigma_k has an
/// error of about 1e-16 sigma_1^2 / sigma_k, and values below 1e-8 sigma_1 come out as noise of that size or zero. With
/// dim > 0 samples with sigma_d < kGramFloor sigma_1 are therefore left to `SmallDecomposition`, whose values are good
/// to 1e-15 sigma_1: nothing that the whitening rests on loses more than two digits to the squaring.
class BurstDecomposition {
 public:
  /// Ratio of singular values below which a Gram matrix resolves them too poorly: their relative error would exceed
  /// 1e-11.
  static constexpr double kGramFloor = 1e-2;

  /// Singular values are multiplied by `unit`, the whitening divided by it and multiplied by `gain`.
  BurstDecomposition(Index burst_size, Index m, Index dim, double unit, double gain);

  /// Writes singular values (valid, r) and, where dim > 0, whitening (valid, m, dim) of the first `valid` lanes; true
  /// in the lanes whose singular values span too much for a Gram matrix.
  LaneMask compute(const LaneRows& bursts, Index valid, double* singular_values, double* whitening);

 private:
  void read_centred(const LaneRows& bursts, Index first, Index count, const Lanes& inverse);
  void accumulate_gram(const LaneRows& bursts, const Lanes& inverse);
  Lanes scaled_gram(const LaneRows& bursts);
  void whiten_by_members(const LaneRows& bursts, const Lanes& scale, Index valid, double* values, double* whitening);
  void whiten_by_measurements(Index valid, double* whitening);

  Index size_, m_, dim_, r_;
  double unit_, gain_;
  bool members_;  // the Gram matrix is that of the members: K <= m
  SmallEigen eigen_;
  std::vector<Lanes> block_, values_, vectors_;
  std::vector<double> coefficients_, direction_;
  std::vector<const double*> members_of_;
};

}  // namespace diffeo
