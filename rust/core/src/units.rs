//! The units everything is counted in: SI prefixes for rates, binary ones for memory as drivers report it.

/// 1 GB, the unit of bandwidths and traffic: 10⁹ bytes.
pub const GB: f64 = 1e9;
/// 1 GiB, the unit of memory capacities on screen: 2³⁰ bytes.
pub const GIB: f64 = 1_073_741_824.0;
/// 1 MiB, the unit in which drivers report a device's memory: 2²⁰ bytes.
pub const MIB: f64 = 1_048_576.0;
/// 1 TFLOP/s, the unit of peaks: 10¹² operations a second, a multiply-add counted as two.
pub const TFLOPS: f64 = 1e12;
/// One microsecond in seconds.
pub const MICROSECOND: f64 = 1e-6;
