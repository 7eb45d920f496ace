"""What we conclude: criteria, the study, the judge, the report and its figures."""
