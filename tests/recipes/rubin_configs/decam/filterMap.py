for source, target in [("g", "monster_DES_g"), ("Y", "monster_DES_y")]:
    config.filterMap[source] = target
