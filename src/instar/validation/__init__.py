"""Validation: is the past's state whole, did the transfer lose nothing, does the future make sense?"""
