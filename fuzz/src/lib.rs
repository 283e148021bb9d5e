//! Fuzz targets of wsnapd.
