//! The candidate: carries out what the role machine decides, with the session, the election and the job.
