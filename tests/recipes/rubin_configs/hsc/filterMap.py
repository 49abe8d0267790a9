for source, target in [("HSC-R2", "r"), ("NB0387", "g")]:
    config.filterMap[source] = target
