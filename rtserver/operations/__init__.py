"""Before, during and after a show: what doctor, check and calibrate look at; metrics; the log."""
