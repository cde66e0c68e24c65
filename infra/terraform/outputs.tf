output "cspipe_s3" {
  description = "CSPIPE_S3 of infra/.env"
  value       = "s3://${aws_s3_bucket.cspipe.bucket}/${var.prefix}"
}

output "aws_endpoint_url" {
  description = "AWS_ENDPOINT_URL of infra/.env"
  value       = "https://s3.${var.region}.amazonaws.com"
}

output "worker_user" {
  description = "IAM user whose access key workers get"
  value       = aws_iam_user.worker.name
}

output "worker_policy_arn" {
  description = "To attach to a role instead, where machines have roles"
  value       = aws_iam_policy.worker.arn
}
