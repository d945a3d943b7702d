"""dt_testkit"""
