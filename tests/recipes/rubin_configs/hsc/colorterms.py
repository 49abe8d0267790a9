from lsst.pipe.tasks.colorterms import Colorterm, ColortermDict

config.data = {
    "ps1*": ColortermDict(
        data={
            "HSC-G": Colorterm(primary="g", secondary="r", c0=0.01, c1=0.06, c2=-0.001),
            "HSC-R": Colorterm(primary="r", secondary="i", c1=0.002),
        }
    ),
}
