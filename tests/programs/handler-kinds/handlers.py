from instar.ext import pair

pair("cache", "*cache")
pair("*table", "table")
