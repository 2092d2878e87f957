from instar.ext import pair

pair("struct page", "struct sheet")
pair("pages", "sheets")
pair("on_page()", "on_sheet()")
