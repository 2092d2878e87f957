from instar.ext import pair

pair("struct page.hits", "struct page.requests")
