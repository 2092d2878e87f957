from instar.ext import pair

pair("main.count", "count")
